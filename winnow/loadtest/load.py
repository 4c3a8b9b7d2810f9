"""A load: what is sent to a gateway, how, and each client process's share of it."""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Load:
    """What to send, and how. Exactly one of `concurrency` and `rate_per_second` is set."""

    target: str
    requests: Sequence[bytes]
    """Serialized RecommendItemsRequest messages, drawn at random for every call."""
    answer_length: int
    """An answer with another number of items is a failure. 0 accepts any number."""
    seconds: float
    warm_up_seconds: float = 1.0
    """Before the measured seconds. Calls of this time are not counted."""
    timeout_seconds: float = 1.0
    processes: int = 1
    connections: int = 1
    """Connections of each client process, shared by its callers."""
    connection_per_caller: bool = False
    """Closed loop: a connection for each caller instead."""
    concurrency: int | None = None
    """Closed loop: callers of all processes. Each sends its next call as soon as its last one is answered."""
    rate_per_second: float | None = None
    """Open loop: calls of all processes at this mean rate with exponential pauses, whether they are answered or not."""

    def __post_init__(self) -> None:
        if (self.concurrency is None) == (self.rate_per_second is None):
            raise ValueError("exactly one of concurrency and rate_per_second has to be set")
        if self.concurrency is not None and self.concurrency < self.processes:
            raise ValueError(f"concurrency is {self.concurrency}: each of {self.processes} processes needs a caller")
        if self.connection_per_caller and self.concurrency is None:
            raise ValueError("connection_per_caller needs concurrency: an open loop has no callers")
        if not self.requests:
            raise ValueError("requests is empty")

    def share(self, process: int) -> "ClientLoad":
        """Return what the client process with this number does."""
        callers = 0
        if self.concurrency is not None:
            callers = self.concurrency // self.processes + (process < self.concurrency % self.processes)
        return ClientLoad(
            load=self,
            seed=process,
            connections=callers if self.connection_per_caller else self.connections,
            callers=callers,
            rate_per_second=(self.rate_per_second or 0.0) / self.processes,
        )


@dataclass(frozen=True, kw_only=True)
class ClientLoad:
    """One client process's share of a load."""

    load: Load
    seed: int
    connections: int
    callers: int
    """0 for an open loop."""
    rate_per_second: float
    """0 for a closed loop."""
