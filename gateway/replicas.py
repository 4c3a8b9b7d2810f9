"""The replicas of one stage: which one is asked next, and which ones are left alone for a while.

A replica is ejected when it fails several times, gives answers that cannot be used, or is late where another one is
not; never more than half of them are. An ejected one is probed with copies of calls, for whose answers nobody waits,
and taken back when one of these is good.
"""

from collections.abc import Callable, Iterator, Sequence
from math import inf
from typing import Any

import structlog

from winnow.serving.metrics import Metrics

_log = structlog.get_logger(__name__)

Ask = Callable[..., Any]
"""Sends a serialized request: `ask(request, timeout=..., metadata=...)` returns a call, to be awaited or cancelled."""

# So many failures eject a replica, and a good answer makes up for a part of one: three failures in a row are enough,
# and a replica that fails more often than one time in five does not stay for long.
EJECTING_FAILURES = 3.0
WORTH_OF_A_GOOD_ANSWER = 0.25
# How long an ejected replica is left alone before it is probed; twice as long after each probe that fails.
FIRST_EJECTION_SECONDS = 1.0
LONGEST_EJECTION_SECONDS = 10.0


class Replica:
    """One address of a stage."""

    __slots__ = ("address", "ask", "asked", "ejected", "ejection_seconds", "failures", "in_flight", "probe_at", "ready")

    def __init__(self, address: str, ask: Ask, *, ready: bool = True) -> None:
        self.address = address
        self.ask = ask
        self.ready = ready
        """Whether it is connected and says that it serves."""
        self.in_flight = 0
        self.asked = 0
        """When it was asked last, as the number of a call."""
        self.forgive()

    def forgive(self) -> None:
        """Forget its failures: it has been restarted, or has given a good answer to a probe."""
        self.failures = 0.0
        self.ejected = False
        self.ejection_seconds = FIRST_EJECTION_SECONDS
        self.probe_at = inf

    @property
    def usable(self) -> bool:
        """Whether it may be asked although there are others."""
        return self.ready and not self.ejected

    def _order(self) -> tuple[bool, bool, int, int]:
        return not self.ready, self.ejected, self.in_flight, self.asked


class Replicas:
    """Picks replicas, ejects them and takes them back. Times are the event loop's, in seconds."""

    def __init__(self, stage: str, metrics: Metrics, replicas: Sequence[Replica] = ()) -> None:
        self._stage = stage
        self._ejections = metrics.replica_ejections.labels(stage)
        self._replicas = list(replicas)
        self._calls = 0
        self.next_probe_at = inf
        """No ejected replica has to be probed before."""

    def __len__(self) -> int:
        return len(self._replicas)

    def __iter__(self) -> Iterator[Replica]:
        return iter(self._replicas)

    @property
    def any_ready(self) -> bool:
        """Whether one of them is connected and says that it serves."""
        return any(replica.ready for replica in self._replicas)

    def replace(self, replicas: Sequence[Replica]) -> None:
        """Ask these from now on."""
        self._replicas = list(replicas)
        self._schedule_probe()

    def pick(self) -> Replica | None:
        """Return the replica to ask: one that is ready and not ejected, if any; of these the least busy, in turn.

        None where there is no replica at all.
        """
        return self._take(self._replicas)

    def pick_another(self, asked: Replica) -> Replica | None:
        """Return a replica for a second try, as good as any; None where there is none."""
        return self._take([replica for replica in self._replicas if replica is not asked and replica.usable])

    def succeeded(self, replica: Replica) -> None:
        """Learn of a good answer."""
        if replica.failures:
            replica.failures = max(0.0, replica.failures - WORTH_OF_A_GOOD_ANSWER)

    def failed(self, replica: Replica, reason: str, now: float) -> None:
        """Learn of a failure that is the replica's own; eject it if it is one too many."""
        replica.failures += 1
        ejected_count = sum(other.ejected for other in self._replicas)
        if replica.ejected or replica.failures < EJECTING_FAILURES or 2 * (ejected_count + 1) > len(self._replicas):
            return
        replica.ejected = True
        replica.probe_at = now + replica.ejection_seconds
        self._schedule_probe()
        self._ejections.inc()
        _log.warning("replica ejected", stage=self._stage, replica=replica.address, reason=reason)

    def due_probe(self, now: float) -> Replica | None:
        """Return an ejected replica that has to be probed now, if any; `probed` says how it went."""
        due = next((replica for replica in self._replicas if replica.ready and replica.probe_at <= now), None)
        if due is not None:
            due.probe_at = inf
        self._schedule_probe()
        return due

    def probed(self, replica: Replica, now: float, *, good: bool) -> None:
        """Take the replica back, or leave it alone for longer."""
        if good:
            replica.forgive()
            _log.info("replica taken back", stage=self._stage, replica=replica.address)
        elif replica.ejected:
            replica.ejection_seconds = min(2 * replica.ejection_seconds, LONGEST_EJECTION_SECONDS)
            replica.probe_at = now + replica.ejection_seconds
        self._schedule_probe()

    def _take(self, replicas: Sequence[Replica]) -> Replica | None:
        if not replicas:
            return None
        taken = min(replicas, key=Replica._order)
        self._calls += 1
        taken.asked = self._calls
        return taken

    def _schedule_probe(self) -> None:
        self.next_probe_at = min((replica.probe_at for replica in self._replicas if replica.ready), default=inf)
