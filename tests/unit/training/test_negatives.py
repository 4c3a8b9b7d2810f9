import torch

from winnow.training.negatives import MixedSampler, NegativeSampler


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
