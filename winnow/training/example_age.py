"""How old an example is: what was watched in which season is learned apart from what is watched now.

Paper, section 3.3: without it the network learns the average popularity of the whole training window. Zero in serving.
"""

import numpy as np
from numpy.typing import NDArray

from winnow.history import WatchHistories


def example_ages(training: WatchHistories) -> NDArray[np.float32]:
    """Return the age of each watch as a share of the window from the first to the last, float32 [N]: the last has 0.

    All timestamps have to be known.
    """
    ages_seconds = training.timestamps.max(initial=0) - training.timestamps
    ages: NDArray[np.float32] = (ages_seconds / max(int(ages_seconds.max(initial=0)), 1)).astype(np.float32)
    return ages
