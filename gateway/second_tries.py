"""When a stage call is made a second time, and how often that is allowed."""

# A call is not overdue before this: shorter delays are everyday on a busy machine.
SHORTEST_OVERDUE_SECONDS = 0.02


class RetryBudget:
    """Allows second tries up to a share of all calls, so that a failing stage is not buried under them."""

    # A few are always allowed after a quiet time; no more than this many can be saved up.
    MAX_TOKENS = 10.0

    def __init__(self, share: float) -> None:
        self._share = share
        self._tokens = self.MAX_TOKENS

    def on_call(self) -> None:
        """A call earns its share of a second try."""
        self._tokens = min(self._tokens + self._share, self.MAX_TOKENS)

    def take(self) -> bool:
        """Whether one may be made now."""
        if not self._share or self._tokens < 1:
            return False
        self._tokens -= 1
        return True


class OverdueTime:
    """How long a call may take: by the mean of the latest and their mean deviation, like TCP's timer (RFC 6298)."""

    def __init__(self) -> None:
        self._mean = 0.0
        self._deviation = 0.0

    def answered(self, seconds: float) -> None:
        """Learn from a call that was answered."""
        if not self._mean:
            self._mean, self._deviation = seconds, seconds / 2
            return
        error = seconds - self._mean
        self._mean += error / 8
        self._deviation += (abs(error) - self._deviation) / 4

    def seconds(self, remaining_seconds: float) -> float:
        """Return after how long a call is overdue: half of the time left at most, so that another answer can come."""
        usual = self._mean + 4 * self._deviation
        return min(max(usual, SHORTEST_OVERDUE_SECONDS) if usual else remaining_seconds, remaining_seconds / 2)
