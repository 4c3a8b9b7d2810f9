"""Continuous features as columns for a linear layer (paper, section 4.1.3: embedding continuous features).

Shape legend: N candidates, R features, Q points of a quantile table, C columns.
"""

import torch
from torch import Tensor, nn

# For each feature: whether it is known, its quantile, and the square and the root of that.
COLUMNS_PER_FEATURE = 4
QUANTILE_POINTS = 256


class QuantileColumns(nn.Module):
    """Turns a feature into its quantile among the training examples, in [0, 1), with square and root.

    A layer over these columns can be super-linear and sub-linear in the feature. The first column is 1 where the
    feature is known; where it is not, all of its columns are 0.
    """

    def __init__(self, feature_count: int) -> None:
        """Allocate the tables. Their content comes from `fit`, or from a release."""
        super().__init__()
        self.column_count = COLUMNS_PER_FEATURE * feature_count
        self.values_RQ: Tensor
        self.levels_RQ: Tensor
        self.register_buffer("values_RQ", torch.zeros(feature_count, QUANTILE_POINTS))
        self.register_buffer("levels_RQ", torch.zeros(feature_count, QUANTILE_POINTS))

    def fit(self, raw_NR: Tensor) -> None:
        """Learn the quantiles of the features from those of many candidates, NaN where unknown."""
        levels_Q = (torch.arange(QUANTILE_POINTS, device=raw_NR.device) + 0.5) / QUANTILE_POINTS
        for feature, raw_N in enumerate(raw_NR.T):
            known = raw_N[~raw_N.isnan()].sort().values
            if not len(known):
                continue
            values_Q = known[(levels_Q * len(known)).long()]
            values, counts = values_Q.unique_consecutive(return_counts=True)
            # A value that many examples share gets the middle of their quantiles.
            stops = counts.cumsum(0)
            levels = (stops - 0.5 * counts) / QUANTILE_POINTS
            for table, points in ((self.values_RQ, values), (self.levels_RQ, levels)):
                table[feature] = points[-1]
                table[feature, : len(points)] = points

    def forward(self, raw_NR: Tensor) -> Tensor:
        """Return the columns of raw features, NaN where unknown, [N, R] -> [N, C]."""
        known_RN = ~raw_NR.T.isnan()
        raw_RN = raw_NR.T.nan_to_num().contiguous()
        after_RN = torch.searchsorted(self.values_RQ, raw_RN, right=True).clamp_(1, QUANTILE_POINTS - 1)
        low_RN, high_RN = (self.values_RQ.gather(1, at_RN) for at_RN in (after_RN - 1, after_RN))
        share_RN = (raw_RN - low_RN) / (high_RN - low_RN).clamp_min(torch.finfo(torch.float32).tiny)
        from_RN, to_RN = (self.levels_RQ.gather(1, at_RN) for at_RN in (after_RN - 1, after_RN))
        level_RN = torch.lerp(from_RN, to_RN, share_RN.clamp_(0, 1)) * known_RN
        columns = torch.stack([known_RN.to(level_RN.dtype), level_RN, level_RN.square(), level_RN.sqrt()])
        return columns.flatten(0, 1).T
