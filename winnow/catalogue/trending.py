"""Items that were watched more of late than usual: a small list in the release.

Shape legend: T items.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load_file, save_file

from winnow.history import Rows


@dataclass(frozen=True, kw_only=True, eq=False)
class TrendingItems:
    """T items, those that rose the most first.

    `rows` is int32 [T], each row once. `ratios`, float32 [T], never rising, say how many times as often as usual each
    item was watched in the latest window of the training log.
    """

    rows: Rows
    ratios: NDArray[np.float32]

    @classmethod
    def none(cls) -> Self:
        """No item."""
        return cls(rows=np.empty(0, dtype=np.int32), ratios=np.empty(0, dtype=np.float32))

    def save(self, path: Path) -> None:
        """Write a safetensors file."""
        save_file({"rows": self.rows, "ratios": self.ratios}, path)

    @classmethod
    def load(cls, path: Path, item_count: int) -> Self:
        """Read what `save` wrote. Raises ValueError unless it is that, KeyError where an array is missing."""
        arrays = load_file(path)
        rows, ratios = arrays["rows"], arrays["ratios"]
        if rows.dtype != np.int32 or ratios.dtype != np.float32 or rows.ndim != 1 or rows.shape != ratios.shape:
            raise ValueError(
                f"rows are {rows.dtype} {list(rows.shape)} and ratios {ratios.dtype} {list(ratios.shape)}, "
                "not int32 [T] and float32 [T]"
            )
        if len(np.unique(rows)) < len(rows) or not ((rows >= 0) & (rows < item_count)).all():
            raise ValueError(f"rows are not different rows in [0, {item_count})")
        if not np.isfinite(ratios).all() or (ratios[1:] > ratios[:-1]).any():
            raise ValueError("ratios are not finite numbers that never rise")
        return cls(rows=rows, ratios=ratios)
