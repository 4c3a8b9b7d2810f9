import torch
from hypothesis import given
from hypothesis import strategies as st

from winnow.training.distributed.table_layout import TableLayout


@given(item_count=st.integers(1, 500), process_count=st.integers(1, 9))
def test_every_row_is_of_one_process_at_the_place_that_its_position_says(item_count: int, process_count: int) -> None:
    layouts = [TableLayout(item_count, rank, process_count) for rank in range(process_count)]
    rows = torch.cat([layout.own_rows for layout in layouts])
    assert sorted(rows.tolist()) == list(range(item_count))
    # Positions do not depend on the number of processes: one after the other, the parts are the whole.
    assert torch.equal(layouts[0].positions(rows), torch.arange(item_count))
    for layout in layouts:
        own_places = layout.positions(layout.own_rows) - layout.own_start
        assert own_places.tolist() == list(range(len(layout.own_rows)))


def test_popular_rows_are_spread_over_the_processes() -> None:
    layout = TableLayout(10_007, 0, 4)
    owners = layout.positions(torch.arange(100)) // layout.stretch
    assert torch.bincount(owners, minlength=4).min() > 20
