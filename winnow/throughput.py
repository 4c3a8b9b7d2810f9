"""How much is done in a second, as observed of late."""

# Each batch counts this much less than the one after it: about twenty are remembered.
REMEMBERED = 0.95
# One that waited for a dead peer is no change of load: none counts as longer than this many times what is usual. Less
# would be too little: batches may complete together, and then the first of them has all the time.
LONGEST = 10.0


class Throughput:
    """Learns from batches how long a given amount of work takes. Times are in seconds.

    While there is sometimes nothing to do, or batches weigh less than `large_weight`, more could be done than is.
    """

    def __init__(self, large_weight: float) -> None:
        self._large_weight = large_weight
        self._weight = 0.0
        self._busy_seconds = 0.0
        self._saturated_seconds = 0.0
        self._idle_seconds = 0.0
        # Since the latest batch that was completed. Failed ones say nothing, but take time from others.
        self._seconds = 0.0
        self._changed_at = 0.0

    def began(self, now: float) -> None:
        """There is something to do again."""
        if self._weight:
            self._idle_seconds += now - self._changed_at
        self._changed_at = now

    def completed(self, weight: int, now: float) -> None:
        """A batch of that weight has been completed."""
        seconds = self._seconds + now - self._changed_at
        if self._weight:
            seconds = min(seconds, LONGEST * weight * self._busy_seconds / self._weight)
        self._weight = REMEMBERED * self._weight + weight
        self._busy_seconds = REMEMBERED * self._busy_seconds + seconds
        self._saturated_seconds = REMEMBERED * self._saturated_seconds + seconds * min(1.0, weight / self._large_weight)
        self._idle_seconds *= REMEMBERED
        self._seconds = 0.0
        self._changed_at = now

    def ended(self, now: float) -> None:
        """There is nothing to do any more."""
        self._seconds += now - self._changed_at
        self._changed_at = now

    def seconds(self, weight: int) -> float:
        """Return how long it takes to do that much; 0 before anything is known.

        As long as it took, where as much was done as can be; half of that, where hardly anything was to do.
        """
        if not self._busy_seconds:
            return 0.0
        saturated_share = self._saturated_seconds / (self._busy_seconds + self._idle_seconds)
        return weight * self._busy_seconds / self._weight * (1 + saturated_share) / 2
