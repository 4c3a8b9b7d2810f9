import pytest
import torch

from winnow.history import RaggedRows
from winnow.networks.history_bags import HistoryBags
from winnow.networks.options import HistoryOptions
from winnow.networks.packed import pack
from winnow.training.rollback_chunks import RollbackChunks

ITEM_COUNT, EMBEDDING_DIM = 20, 6
HISTORY_LENGTH = 5


def bags_of(decays: tuple[float, ...] | None) -> HistoryBags:
    bags = HistoryBags(HistoryOptions(history_length=HISTORY_LENGTH, bag_decays=decays), EMBEDDING_DIM)
    if decays is not None:
        torch.nn.init.normal_(bags.log_weights, generator=torch.Generator().manual_seed(1))
    return bags


def test_a_bag_is_the_weighted_average() -> None:
    bags = HistoryBags(HistoryOptions(history_length=3, bag_decays=(0.0, 0.7)), EMBEDDING_DIM)
    table = torch.randn(ITEM_COUNT, EMBEDDING_DIM)
    weights = torch.exp(-0.7 * torch.tensor([2.0, 1.0, 0.0]))
    latest = table[[4, 5, 6]]
    expected = torch.cat([latest.mean(dim=0), (weights.unsqueeze(1) * latest).sum(dim=0) / weights.sum()])
    packed = pack(RaggedRows.from_lists([[3, 4, 5, 6]]), torch.device("cpu"))
    torch.testing.assert_close(bags(table, packed)[0], expected)


@pytest.mark.parametrize("decays", [None, (0.0,), (0.0, 0.3, 2.0)])
@pytest.mark.parametrize("chunk_length", [1, 4, 32])
def test_chunks_equal_the_packed_form(decays: tuple[float, ...] | None, chunk_length: int) -> None:
    bags = bags_of(decays)
    table = torch.randn(ITEM_COUNT, EMBEDDING_DIM)
    histories = RaggedRows.from_lists([list(range(13)), [3], [], [9, 9], list(range(19, 0, -1))])
    chunks = RollbackChunks(histories, chunk_length=chunk_length, history_length=HISTORY_LENGTH)
    for number in range(len(chunks)):
        batch = chunks.batch(torch.tensor([number]).numpy())
        watched = table[torch.from_numpy(batch.rows)] * torch.from_numpy(batch.present).unsqueeze(-1)
        summaries = bags.of_chunks(watched, torch.from_numpy(batch.history_lengths))[0]
        user = histories[int(batch.users[0])]
        for target in batch.labelled[0].nonzero()[0]:
            visible = RaggedRows.from_lists([user[: batch.history_lengths[0, target]]])
            packed = pack(visible, torch.device("cpu"))
            torch.testing.assert_close(summaries[target], bags(table, packed)[0], rtol=1e-5, atol=1e-6)


def test_gradients_reach_weights_and_table_in_both_forms() -> None:
    bags = bags_of((0.0, 0.3))
    table = torch.randn(ITEM_COUNT, EMBEDDING_DIM, requires_grad=True)
    histories = RaggedRows.from_lists([[1, 2, 3, 4]])
    packed = pack(RaggedRows.from_lists([[1, 2, 3]]), torch.device("cpu"))
    batch = RollbackChunks(histories, chunk_length=4, history_length=HISTORY_LENGTH).batch(torch.tensor([0]).numpy())
    watched = table[torch.from_numpy(batch.rows)] * torch.from_numpy(batch.present).unsqueeze(-1)
    in_chunks = bags.of_chunks(watched, torch.from_numpy(batch.history_lengths))[0, 3]
    for first, second in zip(
        torch.autograd.grad(bags(table, packed).square().sum(), [bags.log_weights, table]),
        torch.autograd.grad(in_chunks.square().sum(), [bags.log_weights, table]),
        strict=True,
    ):
        torch.testing.assert_close(first, second, rtol=1e-4, atol=1e-6)
