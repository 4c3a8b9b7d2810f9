import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from winnow.history import RaggedRows
from winnow.training.negatives import MixedSampler, NegativeSampler, WatchedItems


def test_negatives_are_half_popular_and_half_uniform() -> None:
    counts = torch.tensor([0, 90, 10])
    sampler = NegativeSampler(counts, sample_count=100_000, generator=torch.Generator().manual_seed(3))
    negatives, log_expected_counts = sampler.draw(torch.empty(0))
    drawn = torch.bincount(negatives, minlength=3).double() / 100_000
    expected = torch.tensor([1 / 6, 0.45 + 1 / 6, 0.05 + 1 / 6], dtype=torch.float64)
    torch.testing.assert_close(drawn, expected, rtol=0, atol=0.01)
    torch.testing.assert_close(log_expected_counts.double(), (expected * 100_000).log()[negatives])


def test_mixed_negatives_are_the_targets_and_uniform_ones() -> None:
    counts = torch.tensor([0, 90, 10])
    generator = torch.Generator().manual_seed(3)
    sampler = MixedSampler(counts, sample_count=100_000, generator=generator)
    targets = torch.multinomial(counts.double(), 50_000, replacement=True, generator=generator)
    negatives, log_expected_counts = sampler.draw(targets)
    assert torch.equal(negatives[:50_000], targets)
    expected = torch.tensor([100_000 / 3, 45_000 + 100_000 / 3, 5_000 + 100_000 / 3], dtype=torch.float64)
    torch.testing.assert_close(torch.bincount(negatives, minlength=3).double(), expected, rtol=0.02, atol=0)
    torch.testing.assert_close(log_expected_counts.double(), expected.log()[negatives])


rows_of_users = st.lists(st.lists(st.integers(0, 8), max_size=6), min_size=1, max_size=5).filter(any)


@settings(deadline=None)
@given(lists=rows_of_users, data=st.data())
def test_what_a_user_watches_anywhere_in_the_log_is_known(lists: list[list[int]], data: st.DataObject) -> None:
    watched = WatchedItems(RaggedRows.from_lists(lists), 9, torch.device("cpu"))
    users = data.draw(st.lists(st.integers(0, len(lists) - 1), min_size=1, max_size=4))
    everything = torch.arange(9).expand(len(users), -1)
    found = watched.among(np.array(users), everything)
    assert found.tolist() == [[row in lists[user] for row in range(9)] for user in users]
