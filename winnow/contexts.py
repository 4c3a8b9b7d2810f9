"""What the caller knows of a ranking request besides the watch history.

Shape legend: B requests in a batch, N impressions of all requests together.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np

from winnow.history import UNKNOWN_TIME, RaggedRows, Timestamps


@dataclass(frozen=True, eq=False)
class RequestContexts:
    """When each of B requests is made, and which items its user was shown before without clicking on them.

    `times`, int64 [B], are seconds since 1970; UNKNOWN_TIME where that is unknown. List b of `unclicked` holds the rows
    of earlier impressions, in any order, once for each time they were shown; it is empty where that is unknown.
    """

    times: Timestamps
    unclicked: RaggedRows

    @classmethod
    def unknown(cls, count: int) -> Self:
        """Contexts of requests whose time and impressions are unknown."""
        nothing = RaggedRows(np.empty(0, dtype=np.int32), np.zeros(count + 1, dtype=np.int64))
        return cls(np.full(count, UNKNOWN_TIME), nothing)

    @classmethod
    def concatenate(cls, parts: Sequence["RequestContexts"]) -> Self:
        """All requests of all parts, in order."""
        return cls(
            np.concatenate([part.times for part in parts]), RaggedRows.concatenate([part.unclicked for part in parts])
        )

    def __len__(self) -> int:
        return len(self.times)
