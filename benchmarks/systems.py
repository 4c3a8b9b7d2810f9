"""The compared systems, each a group of processes on this machine."""

import contextlib
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import grpc

from benchmarks.processes import cpu_seconds, memory_mebibytes
from winnow.serving.local_stack import LocalStack, StackSettings, free_port

HOST = "127.0.0.1"
START_TIMEOUT_SECONDS = 120.0
QUIET = ("--log-level=warning", "--drain-seconds=0")
# A server that does not listen yet is tried again soon, and by no connection of another system.
CHANNEL_OPTIONS = [
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 100),
    ("grpc.use_local_subchannel_pool", 1),
]


@dataclass(frozen=True, kw_only=True)
class RunningSystem:
    """A system that answers RecommendItems at `target`."""

    name: str
    target: str
    processes: dict[str, int]
    """Process ids by role."""

    @classmethod
    def of_stack(cls, name: str, stack: LocalStack) -> Self:
        """The three services of a running stack."""
        processes = {service: process.pid for service, process in stack.processes.items()}
        return cls(name=name, target=stack.gateway_target, processes=processes)

    def cpu_seconds(self) -> float:
        """Return the user and system CPU time that its processes have used so far."""
        return sum(map(cpu_seconds, self.processes.values()))

    def memory_mebibytes(self, role: str) -> dict[str, int]:
        """Return the resident memory of one process, and the private part of it that no file backs."""
        found = memory_mebibytes(self.processes[role])
        return {"resident": found["VmRSS"], "private": found["RssAnon"]}


@contextlib.contextmanager
def noop_single_hop(_releases: Path) -> Iterator[RunningSystem]:
    """Run (a), one process with a prepared answer."""
    port = free_port(HOST)
    with _processes({"edge": ["benchmarks.peers.noop_single_hop", str(port)]}) as processes:
        yield _wait_for(RunningSystem(name="noop_single_hop", target=f"{HOST}:{port}", processes=processes))


@contextlib.contextmanager
def noop_chain(_releases: Path) -> Iterator[RunningSystem]:
    """Run (b), three processes that compute nothing."""
    with _chain("noop_chain", ()) as running:
        yield running


@contextlib.contextmanager
def naive_chain(releases: Path) -> Iterator[RunningSystem]:
    """Run (c), three processes with the plain networks."""
    with _chain("naive_chain", (str(releases),)) as running:
        yield running


@contextlib.contextmanager
def winnow(releases: Path) -> Iterator[RunningSystem]:
    """Run (d), the services as `winnow serve` starts them."""
    with _winnow("winnow", releases, "grpc") as running:
        yield running


@contextlib.contextmanager
def winnow_native(releases: Path) -> Iterator[RunningSystem]:
    """Run (e), the same services on the native transport."""
    with _winnow("winnow_native", releases, "native") as running:
        yield running


SYSTEMS: dict[str, Callable[[Path], contextlib.AbstractContextManager[RunningSystem]]] = {
    "noop_single_hop": noop_single_hop,
    "noop_chain": noop_chain,
    "naive_chain": naive_chain,
    "winnow": winnow,
    "winnow_native": winnow_native,
}


@contextlib.contextmanager
def _winnow(name: str, releases: Path, transport: str) -> Iterator[RunningSystem]:
    with quiet_stack(releases, all=[f"--transport={transport}"]) as stack:
        yield RunningSystem.of_stack(name, stack)


def quiet_stack(releases: Path, **flags: Sequence[str]) -> LocalStack:
    """The three services on free ports, with further flags by service, or of `all`."""
    return LocalStack(
        StackSettings(
            releases=releases,
            start_timeout_seconds=START_TIMEOUT_SECONDS,
            flags={**flags, "all": [*QUIET, *flags.get("all", ())]},
        )
    )


@contextlib.contextmanager
def _chain(name: str, stage_arguments: tuple[str, ...]) -> Iterator[RunningSystem]:
    module = f"benchmarks.peers.{name}"
    candidates, ranking, gateway = (free_port(HOST) for _ in range(3))
    with _processes(
        {
            "candidates": [module, "candidates", str(candidates), *stage_arguments],
            "ranking": [module, "ranking", str(ranking), *stage_arguments],
            "gateway": [module, "gateway", str(gateway), f"{HOST}:{candidates}", f"{HOST}:{ranking}"],
        }
    ) as processes:
        for port in (candidates, ranking):
            _connect(f"{HOST}:{port}")
        yield _wait_for(RunningSystem(name=name, target=f"{HOST}:{gateway}", processes=processes))


@contextlib.contextmanager
def _processes(commands: dict[str, list[str]]) -> Iterator[dict[str, int]]:
    processes = {role: subprocess.Popen([sys.executable, "-m", *command]) for role, command in commands.items()}
    try:
        yield {role: process.pid for role, process in processes.items()}
    finally:
        for process in processes.values():
            process.terminate()
        for process in processes.values():
            process.wait()


def _wait_for(system: RunningSystem) -> RunningSystem:
    _connect(system.target)
    return system


def _connect(target: str) -> None:
    give_up = time.monotonic() + START_TIMEOUT_SECONDS
    while time.monotonic() < give_up:
        channel = grpc.insecure_channel(target, options=CHANNEL_OPTIONS)
        with channel, contextlib.suppress(grpc.FutureTimeoutError):
            grpc.channel_ready_future(channel).result(timeout=1)
            return
    raise TimeoutError(f"{target} did not answer within {START_TIMEOUT_SECONDS:g} seconds")
