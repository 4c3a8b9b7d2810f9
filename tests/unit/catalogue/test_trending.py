from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

from winnow.catalogue.trending import TrendingItems

ROWS, RATIOS = np.array([4, 0, 2], dtype=np.int32), np.array([3, 3, 1.5], dtype=np.float32)


def test_what_is_saved_is_read(tmp_path: Path) -> None:
    for items in (TrendingItems(rows=ROWS, ratios=RATIOS), TrendingItems.none()):
        items.save(tmp_path / "trending")
        read = TrendingItems.load(tmp_path / "trending", item_count=5)
        assert read.rows.tolist() == items.rows.tolist()
        assert read.ratios.tolist() == items.ratios.tolist()
        assert read.rows.dtype == np.int32


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"rows": ROWS.astype(np.int64)}, r"rows are int64 \[3\]"),
        ({"rows": ROWS[:2]}, r"rows are int32 \[2\] and ratios float32 \[3\]"),
        ({"rows": np.array([4, 0, 5], dtype=np.int32)}, r"different rows in \[0, 5\)"),
        ({"rows": np.array([4, 0, -1], dtype=np.int32)}, r"different rows in \[0, 5\)"),
        ({"rows": np.array([4, 0, 4], dtype=np.int32)}, r"different rows in \[0, 5\)"),
        ({"ratios": RATIOS[::-1].copy()}, "never rise"),
        ({"ratios": np.array([np.nan, 1, 1], dtype=np.float32)}, "not finite"),
    ],
)
def test_what_is_not_such_a_list_is_refused(tmp_path: Path, changed: dict[str, Any], reason: str) -> None:
    save_file({"rows": ROWS, "ratios": RATIOS} | changed, tmp_path / "trending")
    with pytest.raises(ValueError, match=reason):
        TrendingItems.load(tmp_path / "trending", item_count=5)


def test_a_missing_array_is_refused(tmp_path: Path) -> None:
    save_file({"rows": ROWS}, tmp_path / "trending")
    with pytest.raises(KeyError, match="ratios"):
        TrendingItems.load(tmp_path / "trending", item_count=5)
