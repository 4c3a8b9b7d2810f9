"""Random numbers of a step as one process would draw them: each process draws all of them and uses its own.

Shape legend: N examples of a step in all processes, n examples of this process, W width.
"""

from dataclasses import dataclass

from torch import Tensor

from winnow.networks.tower import apply_dropout


@dataclass(frozen=True, kw_only=True, eq=False)
class DropoutOfPart:
    """A Dropout for some of the examples of a step: `own_n`, int64 [n], are their places among all `count`."""

    share: float
    own_n: Tensor
    count: int

    def __call__(self, x_nW: Tensor) -> Tensor:
        """Zero a share of the numbers, and scale up the others."""
        factors_NW = apply_dropout(x_nW.new_ones(self.count, x_nW.shape[1]), self.share)
        return x_nW * factors_NW[self.own_n]
