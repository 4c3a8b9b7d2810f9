import pytest
import torch
from torch import nn
from torch.nn import functional as F

from winnow.networks.tower import build_embedding, build_output, draws_from
from winnow.training.distributed import sharded_table
from winnow.training.distributed.processes import Processes
from winnow.training.distributed.sharded_table import ShardedTable, draw_own_rows
from winnow.training.distributed.table_layout import TableLayout

WIDTH = 12


@pytest.mark.parametrize("item_count", [1, 3, 40, 1000, 1001, 4099])
@pytest.mark.parametrize("process_count", [1, 3])
def test_processes_draw_the_rows_of_the_table_that_one_process_draws(
    item_count: int, process_count: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sharded_table, "BLOCK_NUMBERS", 4096)
    builders = (lambda count: build_embedding(count, WIDTH, 0.05)), (lambda count: build_output(WIDTH, count))
    with draws_from(7):
        whole = [build(item_count).weight.detach() for build in builders]
        following = torch.rand(5)
    for rank in range(process_count):
        layout = TableLayout(item_count, rank, process_count)
        with draws_from(7):
            own = [draw_own_rows(build, WIDTH, layout) for build in builders]
            assert torch.equal(torch.rand(5), following)
        for own_rows, all_rows in zip(own, whole, strict=True):
            assert torch.equal(own_rows, all_rows[layout.own_rows])


def test_looking_up_and_its_gradient_are_those_of_a_plain_table(alone: Processes) -> None:
    layout = TableLayout(50, 0, 1)
    whole = nn.Parameter(torch.randn(50, WIDTH))
    table = ShardedTable(whole.detach()[layout.own_rows], layout, alone)
    rows = torch.tensor([[3, 49, 3], [0, 7, 3]], dtype=torch.int32)
    target = torch.randn(2, 3, WIDTH)
    plain = F.embedding(rows, whole)
    assert torch.equal(table(rows), plain)
    ((plain - target) ** 2).sum().backward()  # type: ignore[no-untyped-call]
    ((table(rows) - target) ** 2).sum().backward()
    assert table.weight.grad is not None
    assert whole.grad is not None
    assert table.weight.grad.is_sparse
    torch.testing.assert_close(table.weight.grad.to_dense(), whole.grad[layout.own_rows])


def test_no_rows_have_no_vectors(alone: Processes) -> None:
    layout = TableLayout(50, 0, 1)
    table = ShardedTable(torch.randn(50, WIDTH), layout, alone)
    assert table(torch.empty(0, 4, dtype=torch.int64)).shape == (0, 4, WIDTH)
