"""An impression log split by time, and the watches before its first impression.

Shape legend: I items.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import NDArray

from winnow.logs.impressions import Impressions, read_impressions
from winnow.logs.input_table import InputFileError
from winnow.logs.interactions import Interactions
from winnow.logs.log_format import PLAIN_LOG, LogFormat
from winnow.logs.rollback import visible_before
from winnow.logs.skipped_rows import RowsRead
from winnow.logs.split import LogSplit, checked


@dataclass(frozen=True, kw_only=True, eq=False)
class ImpressionSplit:
    """Impressions by time: the last ones are the test, those before them the validation, the rest is trained on."""

    training: Impressions
    validation: Impressions
    test: Impressions

    @property
    def held_out(self) -> dict[str, Impressions]:
        """The parts that are held out, by name."""
        return {"validation": self.validation, "test": self.test}

    @classmethod
    def by_time(cls, impressions: Impressions, *, validation_share: float, test_share: float) -> Self:
        """Cut off these shares of the impressions. Impressions of the same second are never separated."""
        count = len(impressions)
        cuts = [count - round(count * (validation_share + test_share)), count - round(count * test_share)]
        first, second = (
            int(np.searchsorted(impressions.timestamps, impressions.timestamps[min(cut, count - 1)])) for cut in cuts
        )
        return cls(
            training=impressions.take(slice(0, first)),
            validation=impressions.take(slice(first, second)),
            test=impressions.take(slice(second, count)),
        )


@dataclass(frozen=True, kw_only=True, eq=False)
class ImpressionLog:
    """What both networks learn from: the ranking network from impressions, the candidate network from earlier watches.

    The logits of the candidate network are features of the impressions. Had it learned from their clicks, it would know
    more about them than in serving. For the same reason `popularity`, float32 [I], is each item's share of the earlier
    watches. `fingerprint` is that of all impressions.
    """

    impressions: ImpressionSplit
    earlier_watches: LogSplit
    popularity: NDArray[np.float32]
    fingerprint: str
    rows_read: RowsRead

    @classmethod
    def read(
        cls,
        path: Path,
        interactions: Interactions,
        *,
        validation_share: float,
        test_share: float,
        log_format: LogFormat = PLAIN_LOG,
    ) -> Self:
        """Read and split. Raises InputFileError where a file cannot be used or a part has nothing to learn from."""
        impressions = read_impressions(path, interactions, log_format)
        split = ImpressionSplit.by_time(impressions, validation_share=validation_share, test_share=test_share)
        for name, part in {"training": split.training, **split.held_out}.items():
            if not (part.watch_seconds > 0).any() or part.clicked.all():
                raise InputFileError(f"{path}: the {name} part has no watched impression or no unwatched one")
        histories = interactions.histories
        users = np.repeat(np.arange(len(histories)), histories.lengths)
        is_earlier = histories.timestamps < impressions.timestamps[0]
        counts = np.bincount(users[is_earlier], minlength=len(histories))
        if not counts.any():
            raise InputFileError(f"{path}: no watch of the interaction log is earlier than the first impression")
        watched = np.flatnonzero(counts)
        earlier = visible_before(histories, watched, counts[watched])
        popularity = np.bincount(earlier.rows, minlength=len(interactions.vocabulary)) / len(earlier.rows)
        return cls(
            impressions=split,
            earlier_watches=checked(LogSplit.leave_last_out(earlier), "the watches before the first impression"),
            popularity=popularity.astype(np.float32),
            fingerprint=impressions.fingerprint,
            rows_read=impressions.rows_read,
        )
