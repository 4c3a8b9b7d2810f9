"""How many candidates the time left allows to rank."""


class RankingPace:
    """Learns from every ranking call how long ranking takes of late."""

    # The newest call weighs this much: a change of load shows within a few calls.
    WEIGHT = 0.2
    # Ranking gets no more than this part of the time left by its usual pace: half of all calls are slower than usual.
    CAUTION = 0.5

    def __init__(self) -> None:
        self._seconds = 0.0
        self._candidates = 0.0

    def ranked(self, candidate_count: float, seconds: float) -> None:
        """Learn from a call that was answered; `candidate_count` is the mean of its requests."""
        self._seconds += self.WEIGHT * (seconds - self._seconds)
        self._candidates += self.WEIGHT * (candidate_count - self._candidates)

    def timed_out(self, candidate_count: float, seconds: float) -> None:
        """Learn from a call that gave no answer in the given time: it would have taken at least twice as long."""
        self.ranked(candidate_count, 2 * seconds)

    def affordable(self, candidate_count: int, remaining_seconds: float) -> int:
        """Return how many of the candidates the time left allows."""
        if not self._seconds or self._seconds <= self.CAUTION * remaining_seconds:
            return candidate_count
        affordable = int(self._candidates * self.CAUTION * remaining_seconds / self._seconds)
        return min(candidate_count, max(0, affordable))
