import numpy as np
import pytest

from winnow.evaluation.calibration import calibration


def test_groups_are_of_equal_size_from_small_to_large() -> None:
    groups = calibration(np.array([0.9, 0.1, 0.2, 0.8]), np.array([True, False, True, True]), group_count=2)
    assert groups[0] == pytest.approx({"predicted": 0.15, "actual": 0.5})
    assert groups[1] == pytest.approx({"predicted": 0.85, "actual": 1.0})


def test_deciles_by_default() -> None:
    predicted = np.arange(100.0)[::-1] + 1
    deciles = calibration(predicted, predicted / 2)
    assert [decile["predicted"] for decile in deciles] == pytest.approx(np.arange(10) * 10 + 5.5)
    assert [decile["actual"] for decile in deciles] == pytest.approx((np.arange(10) * 10 + 5.5) / 2)
