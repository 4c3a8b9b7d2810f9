"""Whether predictions are true on average, over their whole range.

Shape legend: N predictions.
"""

import numpy as np
from numpy.typing import NDArray


def calibration(
    predicted_N: NDArray[np.floating], actual_N: NDArray[np.generic], *, group_count: int = 10
) -> list[dict[str, float]]:
    """Cut the predictions, sorted, into groups of equal size; return the means of `predicted` and `actual` of each."""
    order = np.argsort(predicted_N, kind="stable")
    return [
        {
            "predicted": float(predicted_N[group].mean(dtype=np.float64)),
            "actual": float(actual_N[group].mean(dtype=np.float64)),
        }
        for group in np.array_split(order, group_count)
    ]
