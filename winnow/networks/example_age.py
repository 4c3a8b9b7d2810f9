"""The age of a training example as an input of the candidate network (paper, section 3.3).

Without it, the network learns the average popularity over the whole training window.
"""

import torch
from torch import Tensor, nn

# The age, its square and its root (paper, section 4.1.3, on continuous features).
FEATURE_COUNT = 3


class ExampleAge(nn.Module):
    """Adds a linear map of the example's age to the summarised history.

    In serving the age is zero and nothing is added, so serving does not call this module.
    """

    def __init__(self, summary_dim: int) -> None:
        super().__init__()
        self.shift = nn.Linear(FEATURE_COUNT, summary_dim, bias=False)
        nn.init.zeros_(self.shift.weight)

    def forward(self, summaries: Tensor, ages: Tensor) -> Tensor:
        """Return the shifted summaries, [..., summary_dim], of examples of these ages, float [...] in [0, 1]."""
        features = torch.stack([ages, ages.square(), ages.sqrt()], dim=-1)
        shifted: Tensor = summaries + self.shift(features.to(summaries.dtype))
        return shifted
