"""What a log is like: how dense it is, whether it says what came first, what its weights are.

`winnow check` prints this, and the preset `auto` decides by it (winnow/training/automatic.py).

Shape legend: N watches of all histories, P pairs of a watch and the next one of the same user.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, Self

import numpy as np
from numpy.typing import NDArray

from winnow.history import WatchHistories
from winnow.logs.disk_arrays import give_back

# Of a larger log, all but counts and limits is found out from some users, who are drawn at random.
JUDGED_WATCHES = 500_000
SHUFFLES = 5
SEED = 1
# Successions repeat at least this much more often than in shuffled histories where the order says something, and by
# this many standard deviations of the shuffled ones.
SMALLEST_EXCESS, SMALLEST_DEVIATIONS = 0.05, 4.0
# Fewer repetitions say nothing either way: then times that differ are believed.
FEWEST_REPETITIONS = 50
# From this share of the successions on, in one direction of the weights or of the items, histories are sorted.
SORTED = 0.98
# From this share on, nearly all watches have the time of the one before: there is no time between them.
MOSTLY_TIED = 0.9
# People rate on scales with few steps.
MOST_RATINGS = 20

Weights = Literal["none", "ratings", "amounts"]


@dataclass(frozen=True, kw_only=True)
class LogStatistics:
    """Counts, times, weights and the order of the watches of a log."""

    user_count: int
    item_count: int
    watch_count: int
    median_length: int
    """Watches of a user."""
    tied_share: float
    """Of the watches with an earlier one by the same user: how many have the same time as that."""
    repetition_count: int
    """Pairs of equal successions."""
    succession_excess: float
    """How much more often the same two items follow each other than if histories were shuffled, as a share."""
    excess_deviations: float
    """The same in standard deviations between shuffles."""
    weight_direction: float
    """Of the successions of different weights: the share in which the weight falls, or rises if that is larger."""
    item_direction: float
    """Of the successions of the same two items: the share in the direction that is more frequent."""
    weight_count: int
    """Different weights."""
    lightest: float
    heaviest: float
    whole_weights: bool
    """Whether all weights are multiples of one half."""

    @property
    def order_known(self) -> bool:
        """Whether the order of a user's watches says something: the times do, or the order of the rows."""
        if self.sorted_by:
            return False
        if self.repetition_count < FEWEST_REPETITIONS:
            return self.tied_share < MOSTLY_TIED
        return self.succession_excess >= SMALLEST_EXCESS and self.excess_deviations >= SMALLEST_DEVIATIONS

    @property
    def sorted_by(self) -> str:
        """What histories are sorted by instead of by time: "weight", "item" or "" for neither."""
        if self.weight_direction >= SORTED:
            return "weight"
        # With times, items that are always watched one after the other may be parts of a series.
        return "item" if self.tied_share >= MOSTLY_TIED and self.item_direction >= SORTED else ""

    @property
    def order_reason(self) -> str:
        """Why the order is taken to say something or nothing."""
        if self.sorted_by:
            return f"the watches of a user are sorted by {self.sorted_by}"
        if self.repetition_count < FEWEST_REPETITIONS:
            return (
                f"too few successions repeat, and {self.tied_share:.0%} of the watches have the time of the one before"
            )
        return f"successions repeat {self.succession_excess:+.0%} as compared with shuffled histories"

    @property
    def times_known(self) -> bool:
        """Whether there are times between the watches of a user, in an order that says something."""
        return self.order_known and self.tied_share < MOSTLY_TIED

    @property
    def weights(self) -> Weights:
        """What the weights are: few steps of a scale, or amounts such as hours."""
        if self.weight_count < 2:
            return "none"
        return "ratings" if self.weight_count <= MOST_RATINGS and self.whole_weights else "amounts"

    @property
    def weights_in_words(self) -> str:
        """What the weights are, and of which size."""
        if self.weights == "none":
            return "no weights: all watches count the same"
        return f"weights from {self.lightest:g} to {self.heaviest:g}, which look like {self.weights}"

    @property
    def watches_per_item(self) -> float:
        """The mean."""
        return self.watch_count / max(self.item_count, 1)

    def lines(self) -> Iterator[str]:
        """Describe the log, line by line."""
        yield (
            f"{self.watch_count:,} watches by {self.user_count:,} users of {self.item_count:,} items: "
            f"{self.median_length:,} a user (median), {self.watches_per_item:.0f} an item"
        )
        yield f"the order of the watches says {'something' if self.order_known else 'nothing'}: {self.order_reason}"
        yield self.weights_in_words

    @classmethod
    def of(cls, histories: WatchHistories, item_count: int) -> Self:
        """Compute the statistics of histories, each oldest first, with known times and weights."""
        weights, users = histories.weights, judged_users(histories.lengths)
        judged = histories
        if len(users) < len(histories):
            judged = histories.take(histories.offsets[users], histories.lengths[users])
        found = cls.of_judged(
            judged,
            histories.lengths,
            item_count,
            lightest=float(weights.min(initial=np.inf)),
            heaviest=float(weights.max(initial=-np.inf)),
        )
        give_back(histories.rows, histories.weights, histories.timestamps)
        return found

    @classmethod
    def of_judged(
        cls,
        judged: WatchHistories,
        lengths: NDArray[np.int64],
        item_count: int,
        *,
        lightest: float,
        heaviest: float,
    ) -> Self:
        """Compute the statistics of a log from the histories of its `judged_users`.

        The other arguments are of the whole log: watches of each user, items, and the limits of the weights.
        """
        counts = lengths[lengths > 0]
        repetition_count, excess, deviations = _successions(judged, item_count)
        different = np.unique(judged.weights)
        return cls(
            user_count=len(counts),
            item_count=item_count,
            watch_count=int(counts.sum()),
            median_length=int(np.median(counts)) if len(counts) else 0,
            tied_share=_tied_share(judged),
            repetition_count=repetition_count,
            succession_excess=excess,
            excess_deviations=deviations,
            weight_direction=_weight_direction(judged),
            item_direction=_item_direction(judged, item_count),
            weight_count=len(different),
            lightest=lightest if len(counts) else 1.0,
            heaviest=heaviest if len(counts) else 1.0,
            whole_weights=bool((different * 2 == np.round(different * 2)).all()),
        )


def _tied_share(histories: WatchHistories) -> float:
    same_user = _users(histories)[1:] == _users(histories)[:-1]
    tied = np.diff(histories.timestamps)[same_user] == 0
    return float(tied.mean()) if len(tied) else 0.0


def _successions(histories: WatchHistories, item_count: int) -> tuple[int, float, float]:
    """Count repeated successions, and how many more they are than in shuffled histories.

    The latter is returned as a share, and in standard deviations.

    A shuffled history holds the same items, so what users like and how popular items are does not matter.
    """
    rng = np.random.default_rng(SEED)
    users_N = _users(histories)
    actual = _repetitions(histories.rows, users_N, item_count)
    shuffled = np.array(
        [
            _repetitions(histories.rows[np.lexsort((rng.random(len(users_N)), users_N))], users_N, item_count)
            for _ in range(SHUFFLES)
        ]
    )
    mean = max(shuffled.mean(), 1.0)
    # Of a few repetitions the shuffles may have the same number by chance: counts vary by their square root at least.
    deviation = max(float(shuffled.std(ddof=1)), float(np.sqrt(mean)))
    return actual, float(actual / mean - 1), float((actual - mean) / deviation)


def _weight_direction(histories: WatchHistories) -> float:
    changes = np.diff(histories.weights)[_users(histories)[1:] == _users(histories)[:-1]]
    rising, falling = int((changes > 0).sum()), int((changes < 0).sum())
    return max(rising, falling) / max(rising + falling, 1)


def _item_direction(histories: WatchHistories, item_count: int) -> float:
    same_user = _users(histories)[1:] == _users(histories)[:-1]
    before, after = (rows[same_user].astype(np.int64) for rows in (histories.rows[:-1], histories.rows[1:]))
    pairs_P = np.minimum(before, after) * item_count + np.maximum(before, after)
    _, at_P, counts = np.unique(pairs_P, return_inverse=True, return_counts=True)
    upwards = np.bincount(at_P, weights=before < after)
    repeated = counts > 1
    return float(np.maximum(upwards, counts - upwards)[repeated].sum() / max(counts[repeated].sum(), 1))


def judged_users(lengths: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return as many users, drawn at random, as have JUDGED_WATCHES together, int64; all of them, in order, if fewer.

    `lengths`, int64, counts the watches of every user.
    """
    drawn = np.random.default_rng(SEED).permutation(len(lengths))
    of_drawn = lengths[drawn]
    kept = drawn[np.cumsum(of_drawn) - of_drawn < JUDGED_WATCHES]
    return np.arange(len(lengths)) if len(kept) == len(drawn) else kept


def _repetitions(rows: NDArray[np.int32], users_N: NDArray[np.int64], item_count: int) -> int:
    """Count the pairs of equal successions."""
    same_user = users_N[1:] == users_N[:-1]
    pairs_P = rows[:-1][same_user].astype(np.int64) * item_count + rows[1:][same_user]
    _, counts = np.unique(pairs_P, return_counts=True)
    return int((counts * (counts - 1) // 2).sum())


def _users(histories: WatchHistories) -> NDArray[np.int64]:
    return np.repeat(np.arange(len(histories)), histories.lengths)
