"""What the ranking network answers with: its logits as probabilities, or as an expected watch time.

The paper trains the logit so that its exponential is the expected watch time (section 4.2).
"""

import torch
from torch import Tensor

from winnow.networks.options import Score

# exp of a slightly larger number overflows float32.
LARGEST_EXPONENT = 80.0


def scores_of_logits(logits: Tensor, score: Score) -> Tensor:
    """Return probabilities or seconds, finite for every finite logit."""
    if score == "probability":
        return torch.sigmoid(logits)
    return torch.exp(logits.clamp(max=LARGEST_EXPONENT))
