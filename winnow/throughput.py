"""How long work takes where there is much of it, as observed of late."""

# Each batch counts this much less than the one after it: about twenty are remembered.
REMEMBERED = 0.95
# One that waited for a dead peer is no change of load: none counts as longer than this many times what is usual. Less
# would be too little: batches may complete together, and then the first of them has all the time.
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
        """There is nothing to do any more. What comes next is taken as it comes, until its time is known."""
        self._weight = self._seconds = 0.0
        self._completed_at = None

    def completed(self, weight: int, now: float) -> None:
        """A batch of that weight has been completed. Failed ones say nothing, but take time from the next."""
        if self._completed_at is not None:
            self._learn(weight, now - self._completed_at)
        self._completed_at = now

    def _learn(self, weight: int, seconds: float) -> None:
        usual = self.seconds(weight)
        # A small batch says how much can be done at least.
        if weight >= self._large_weight or seconds < usual:
            self._weight = REMEMBERED * self._weight + weight
            self._seconds = REMEMBERED * self._seconds + (min(seconds, LONGEST * usual) if usual else seconds)

    def refused(self, now: float) -> None:
        """A batch has been refused by those who do the work: they have more than they can do, and do less for it."""
        if self._completed_at is not None:
            self._seconds += now - self._completed_at
        self._completed_at = now

    def seconds(self, weight: float) -> float:
        """Return how long it takes to do that much; 0 where nothing is known."""
        # As if one were done by now, where nothing is.
        return weight * self._seconds / max(self._weight, 1.0)
