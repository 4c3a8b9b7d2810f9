import torch

from winnow.networks.features.quantiles import QuantileColumns


def test_a_feature_becomes_its_quantile_with_square_and_root() -> None:
    quantiles = QuantileColumns(2)
    values = torch.stack([torch.arange(1000.0).square(), (torch.arange(1000) >= 600).float()], dim=1)
    values[:100, 1] = torch.nan
    quantiles.fit(values[torch.randperm(1000)])
    found = quantiles(torch.tensor([[-5.0, 0.0], [500.0**2, 1.0], [1e9, torch.nan]])).view(3, 4, 2)
    known, level, square, root = found.unbind(1)
    assert known.tolist() == [[1, 1], [1, 1], [1, 0]]
    # Half of the ones that are known are 0: they get the middle of their half.
    expected = torch.tensor([[0.0, 5 / 18], [0.5, 7 / 9], [1.0, 0.0]])
    torch.testing.assert_close(level, expected, rtol=0, atol=0.005)
    assert ((level >= 0) & (level < 1)).all()
    torch.testing.assert_close(square, level**2)
    torch.testing.assert_close(root, level**0.5)


def test_a_feature_that_was_never_known_has_no_quantiles() -> None:
    quantiles = QuantileColumns(1)
    quantiles.fit(torch.full((5, 1), torch.nan))
    assert not quantiles(torch.tensor([[torch.nan]])).any()
