"""A load, and how several client processes put it on a gateway."""

import multiprocessing
import time
from collections.abc import Sequence
from dataclasses import dataclass

from winnow.bench.measured import Measured

# Spawning and connecting the clients; beyond this something is wrong.
READY_TIMEOUT_SECONDS = 60.0


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


def run_load(load: Load) -> Measured:
    """Put the load on the gateway and return what was measured. Raises RuntimeError where a client process fails."""
    from winnow.bench.client import run_client

    # Spawned, not forked: gRPC does not survive a fork.
    processes = multiprocessing.get_context("spawn")
    results = processes.SimpleQueue()
    ready = processes.Barrier(load.processes + 1)
    starts_at = processes.Value("d", 0.0)
    clients = [
        processes.Process(target=run_client, args=(load.share(number), ready, starts_at, results), daemon=True)
        for number in range(load.processes)
    ]
    for client in clients:
        client.start()
    try:
        ready.wait(READY_TIMEOUT_SECONDS)
        starts_at.value = time.monotonic() + 0.2
        ready.wait(READY_TIMEOUT_SECONDS)
    except Exception as error:
        for client in clients:
            client.terminate()
        raise RuntimeError(f"a client process could not reach {load.target}") from error
    total = Measured(seconds=load.seconds)
    for _ in clients:
        total.add(_receive(results, clients, load))
    for client in clients:
        client.join()
    return total


def _receive(results: object, clients: "Sequence[multiprocessing.process.BaseProcess]", load: Load) -> Measured:
    give_up = time.monotonic() + load.warm_up_seconds + load.seconds + load.timeout_seconds + READY_TIMEOUT_SECONDS
    while results.empty():  # type: ignore[attr-defined]
        if any(client.exitcode for client in clients) or time.monotonic() > give_up:
            raise RuntimeError("a client process ended without a result: see its error above")
        time.sleep(0.02)
    return Measured.decode(results.get())  # type: ignore[attr-defined]
