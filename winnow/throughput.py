"""How long work takes where there is much of it, as observed of late."""

# Each batch counts this much less than the one after it: about twenty are remembered.
REMEMBERED = 0.95
# A batch that waited for a dead peer does not mean that the load has changed, so no batch counts as more than this many
# times the usual time. The factor cannot be small: of batches that complete together, the first one gets all the time.
LONGEST = 10.0


class Throughput:
    """Learns how long a given amount of work takes, from the times between completions of batches, in seconds.

    Batches of less than `large_weight` say little about how much can be done; they count if it is more than expected.
    """

    def __init__(self, large_weight: float) -> None:
        self._large_weight = large_weight
        self._weight = 0.0
        self._seconds = 0.0
        self._completed_at: float | None = None

    def forget(self) -> None:
        """Forget everything: nothing is under way any more, and new items are accepted until new times are known."""
        self._weight = self._seconds = 0.0
        self._completed_at = None

    def completed(self, weight: int, now: float) -> None:
        """A batch of that weight has been completed. Failed ones are not reported: the next one gets their time."""
        if self._completed_at is not None:
            self._learn(weight, now - self._completed_at)
        self._completed_at = now

    def _learn(self, weight: int, seconds: float) -> None:
        usual = self.seconds(weight)
        # A small batch is a lower bound of what can be done.
        if weight >= self._large_weight or seconds < usual:
            self._weight = REMEMBERED * self._weight + weight
            self._seconds = REMEMBERED * self._seconds + (min(seconds, LONGEST * usual) if usual else seconds)

    def refused(self, now: float) -> None:
        """A batch has been refused because its stage is overloaded: time has passed, and nothing was done."""
        if self._completed_at is not None:
            self._seconds += now - self._completed_at
        self._completed_at = now

    def seconds(self, weight: float) -> float:
        """Return how long it takes to do that much; 0 where nothing is known."""
        # Where nothing has been completed, as if one item had been.
        return weight * self._seconds / max(self._weight, 1.0)
