"""A load: what is sent to a gateway, how, and what one client process does of it."""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Load:
    """What to send, and how. Exactly one of `concurrency` and `rate_per_second` is set."""

    target: str
    requests: Sequence[bytes]
    """Serialized RecommendItemsRequest messages, sent in a random order, again and again."""
    answer_length: int
    """An answer with another number of items is a failure; 0 accepts any."""
    seconds: float
    warm_up_seconds: float = 1.0
    """Sent before the measured seconds and not counted."""
    timeout_seconds: float = 1.0
    processes: int = 1
    connections: int = 1
    """Connections of each client process."""
    concurrency: int | None = None
    """Closed loop: this many callers in all, each sends its next call when it has the answer to the last."""
    rate_per_second: float | None = None
    """Open loop: calls are sent at this mean rate with exponential pauses, whether answers come or not."""

    def __post_init__(self) -> None:
        if (self.concurrency is None) == (self.rate_per_second is None):
            raise ValueError("exactly one of concurrency and rate_per_second has to be set")
        if self.concurrency is not None and self.concurrency < self.processes:
            raise ValueError(f"concurrency is {self.concurrency}: each of {self.processes} processes needs a caller")
        if not self.requests:
            raise ValueError("requests is empty")

    def share(self, process: int) -> "ClientLoad":
        """What the client process with this number does."""
        callers = 0
        if self.concurrency is not None:
            callers = self.concurrency // self.processes + (process < self.concurrency % self.processes)
        return ClientLoad(
            load=self, seed=process, callers=callers, rate_per_second=(self.rate_per_second or 0.0) / self.processes
        )


@dataclass(frozen=True, kw_only=True)
class ClientLoad:
    """One client process's share of a load."""

    load: Load
    seed: int
    callers: int
    """0 for an open loop."""
    rate_per_second: float
