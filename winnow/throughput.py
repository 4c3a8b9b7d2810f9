"""How long work takes where there is much of it, as observed of late."""

# Each batch counts this much less than the one after it: about twenty are remembered.
REMEMBERED = 0.95
# One that waited for a dead peer is no change of load: none counts as longer than this many times what is usual. Less
# would be too little: batches may complete together, and then the first of them has all the time.
LONGEST = 10.0


class Throughput:
    """Learns from the times between completions of batches how long a given amount of work takes. Times are in seconds.

    Only batches of `large_weight` or more count: smaller ones say little about how much can be done.
    """

    def __init__(self, large_weight: float) -> None:
        self._large_weight = large_weight
        self._weight = 0.0
        self._seconds = 0.0
        self._completed_at: float | None = None

    def forget(self) -> None:
        """There is nothing to do any more. What comes next is taken as it comes, until it is known how long it takes."""
        self._weight = self._seconds = 0.0
        self._completed_at = None

    def completed(self, weight: int, now: float) -> None:
        """A batch of that weight has been completed. Failed ones say nothing, but take time from the next."""
        if self._completed_at is not None and weight >= self._large_weight:
            seconds = now - self._completed_at
            if self._seconds:
                seconds = min(seconds, LONGEST * self.seconds(weight))
            self._weight = REMEMBERED * self._weight + weight
            self._seconds = REMEMBERED * self._seconds + seconds
        self._completed_at = now

    def seconds(self, weight: float) -> float:
        """Return how long it takes to do that much; 0 where nothing is known."""
        return weight * self._seconds / self._weight if self._weight else 0.0
