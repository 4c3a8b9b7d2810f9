"""Runs a load with several client processes."""

import multiprocessing
import time
from collections.abc import Sequence

from winnow.loadtest.caller import run_client
from winnow.loadtest.load import Load
from winnow.loadtest.measured import Measured

# For spawning and connecting the clients. If it takes longer, something is wrong.
READY_TIMEOUT_SECONDS = 60.0


def run_load(load: Load) -> Measured:
    """Run the load and return what was measured. Raises RuntimeError if a client process fails."""
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
