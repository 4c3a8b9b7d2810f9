"""Leaves a source alone that keeps failing: otherwise every batch would wait for it until its timeout."""

from math import inf

from gateway.replicas import (
    EJECTING_FAILURES,
    FIRST_EJECTION_SECONDS,
    LONGEST_EJECTION_SECONDS,
    WORTH_OF_A_GOOD_ANSWER,
)


class CircuitBreaker:
    """Opens after several failures and closes after a good probe. Times are the event loop's, in seconds.

    The numbers are those by which a replica of a stage is ejected and taken back.
    """

    def __init__(self) -> None:
        self.open = False
        """Whether the source is only probed, and nobody waits for it."""
        self._failures = 0.0
        self._open_seconds = FIRST_EJECTION_SECONDS
        self._probe_at = inf

    def answered(self) -> None:
        """Learn of a good answer."""
        self._failures = max(0.0, self._failures - WORTH_OF_A_GOOD_ANSWER)

    def failed(self, now: float) -> bool:
        """Learn of a failure, and return whether it opens the circuit: not where it was open already."""
        if self.open:
            return False
        self._failures += 1
        if self._failures >= EJECTING_FAILURES:
            self.open = True
            self._probe_at = now + self._open_seconds
        return self.open

    def take_probe(self, now: float) -> bool:
        """Whether to probe the source now. There is one probe at a time; `probed` says how it went."""
        due = now >= self._probe_at
        if due:
            self._probe_at = inf
        return due

    def probed(self, now: float, *, good: bool) -> None:
        """Close the circuit, or leave it open for twice as long."""
        if good:
            self.open = False
            self._failures = 0.0
            self._open_seconds = FIRST_EJECTION_SECONDS
        else:
            self._open_seconds = min(2 * self._open_seconds, LONGEST_EJECTION_SECONDS)
            self._probe_at = now + self._open_seconds
