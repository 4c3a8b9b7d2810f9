"""The three services as processes on this machine, as `winnow serve`, the examples and the tests run them."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import IO, Self

from winnow.release.reader import current_release_id
from winnow.rpc.health import healthy

# Longer than the services' own drain and grace times.
STOP_TIMEOUT_SECONDS = 30.0


class StackError(Exception):
    """A service could not start or has ended; the text is for operators."""


@dataclass(frozen=True, kw_only=True)
class StackSettings:
    """Where the three services listen and what they serve. Port 0 is any free port."""

    releases: Path
    host: str = "127.0.0.1"
    gateway_port: int = 0
    candidate_port: int = 0
    ranking_port: int = 0
    start_timeout_seconds: float = 60.0
    flags: Mapping[str, Sequence[str]] = field(default_factory=dict)
    """Further flags by service: `candidate_service`, `ranking_service`, `gateway`, or `all`."""
    output: IO[str] | None = None
    """Where the services write their logs; None is where this process writes its own."""


class LocalStack:
    """Starts the three services, waits until they are healthy, and stops them all. A context manager."""

    def __init__(self, settings: StackSettings) -> None:
        self._settings = settings
        self._ports = {
            "candidate_service": settings.candidate_port or free_port(settings.host),
            "ranking_service": settings.ranking_port or free_port(settings.host),
            "gateway": settings.gateway_port or free_port(settings.host),
        }
        self.processes: dict[str, subprocess.Popen[bytes]] = {}

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def address(self, service: str) -> str:
        """Where a service listens, as a gRPC target."""
        return f"{self._settings.host}:{self._ports[service]}"

    @property
    def gateway_target(self) -> str:
        """Where to send requests."""
        return self.address("gateway")

    def start(self) -> None:
        """Start all three and return when they are healthy.

        Raises ReleaseError where there is no release, StackError where a service cannot start; nothing keeps running.
        """
        current_release_id(self._settings.releases)
        for service, port in self._ports.items():
            # Another server on the port may be healthy too, and would be taken for ours below.
            if not is_free(self._settings.host, port):
                raise StackError(f"{service} cannot start: {self.address(service)} is taken")
        try:
            stages = [service for service in self._ports if service != "gateway"]
            for service in stages:
                self.start_service(service)
            # A gateway that finds no stage listening tries again only after a pause: its first answers would be
            # degraded although all three are healthy by then.
            self._wait(stages, "listening", self._listens)
            self.start_service("gateway")
            self._wait(list(self._ports), "healthy", lambda service: healthy(self.address(service)))
        except BaseException:
            self.stop()
            raise

    def start_service(self, service: str) -> None:
        """Start one of the three."""
        self.processes[service] = subprocess.Popen(  # noqa: S603 - our own modules
            [sys.executable, "-m", service, *self._flags(service)],
            stdout=self._settings.output,
            stderr=self._settings.output,
            # In a session of its own: Ctrl-C reaches this process only, which stops the services in order.
            start_new_session=True,
        )

    def wait(self) -> None:
        """Wait until a service ends by itself; raise StackError that names it."""
        while True:
            for service, process in self.processes.items():
                if process.poll() is not None:
                    raise StackError(f"{service} ended with exit status {process.returncode}: see its log above")
            time.sleep(0.2)

    def stop(self) -> dict[str, int]:
        """Stop the gateway first, then the stages, so that no accepted request is lost; return the exit statuses."""
        for service in ("gateway", "candidate_service", "ranking_service"):
            if process := self.processes.get(service):
                with contextlib.suppress(ProcessLookupError):
                    process.send_signal(signal.SIGTERM)
                if service == "gateway":
                    self._reap(process)
        return {service: self._reap(process) for service, process in self.processes.items()}

    @staticmethod
    def _reap(process: "subprocess.Popen[bytes]") -> int:
        try:
            return process.wait(STOP_TIMEOUT_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            return process.wait()

    def _flags(self, service: str) -> list[str]:
        settings = self._settings
        flags = [f"--releases={settings.releases}", f"--host={settings.host}", f"--port={self._ports[service]}"]
        if service == "gateway":
            flags.append(f"--candidate-target={self.address('candidate_service')}")
            flags.append(f"--ranking-target={self.address('ranking_service')}")
        return [*flags, *settings.flags.get("all", ()), *settings.flags.get(service, ())]

    def _listens(self, service: str) -> bool:
        try:
            socket.create_connection((self._settings.host.strip("[]"), self._ports[service]), timeout=1).close()
        except OSError:
            return False
        return True

    def _wait(self, services: Sequence[str], state: str, reached: Callable[[str], bool]) -> None:
        give_up = time.monotonic() + self._settings.start_timeout_seconds
        waiting = set(services)
        while waiting:
            for service in sorted(waiting):
                process = self.processes[service]
                if process.poll() is not None:
                    raise StackError(f"{service} could not start (exit status {process.returncode}): see its log above")
                if reached(service):
                    waiting.discard(service)
            if time.monotonic() > give_up:
                raise StackError(
                    f"{', '.join(sorted(waiting))} not {state} after {self._settings.start_timeout_seconds:g} seconds"
                )
            time.sleep(0.05)


def free_port(host: str) -> int:
    """Return a free port that no other call and no outgoing connection is given while this process lives.

    It stays bound without listening, and its socket is never closed. A server may still listen there, if it sets
    SO_REUSEADDR or SO_REUSEPORT, as servers do.
    """
    holder = _bind(host, 0)
    holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    port = int(holder.getsockname()[1])
    holder.detach()
    return port


def is_free(host: str, port: int) -> bool:
    """Whether a server could listen on the port."""
    try:
        _bind(host, port).close()
    except OSError:
        return False
    return True


def _bind(host: str, port: int) -> socket.socket:
    """Bind the port as a server would, without listening."""
    bound = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    try:
        # Connections of an earlier server that are still closing do not take the port.
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind((host.strip("[]"), port))
    except OSError:
        bound.close()
        raise
    return bound


def forward_signals_as_exit(status: int = os.EX_OK) -> None:
    """Turn SIGTERM, and the end of the terminal, into SystemExit, so that context managers stop what they started."""

    def leave(_number: int, _frame: object) -> None:
        raise SystemExit(status)

    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, leave)
