"""Several processes of one service behind one port, for more cores than one Python process can use.

The kernel spreads connections over the processes (SO_REUSEPORT). The supervisor starts the workers, replaces those that
die, and passes signals on. It holds the port without listening, so that nothing else takes it and a second supervisor
fails.
"""

import contextlib
import multiprocessing
import multiprocessing.connection
import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from multiprocessing.context import SpawnProcess
from typing import TypeVar

import structlog

from winnow.serving.logs import configure_logs
from winnow.serving.settings import ServerSettings

_log = structlog.get_logger(__name__)

Settings = TypeVar("Settings", bound=ServerSettings)

# A worker that ends sooner cannot start, and the next one could not either: its release, settings or port are at fault.
LEAST_LIFE_SECONDS = 5.0
# How long a signal may take to be noticed.
POLL_SECONDS = 0.2


@dataclass(eq=False)
class _Worker:
    number: int
    process: SpawnProcess
    started_at: float


class Supervisor:
    """Keeps `count` workers running. Each calls `run`, a function of a module, with settings of its own."""

    def __init__(self, run: Callable[[Settings], int], settings: Settings, count: int) -> None:
        self._run_worker = run
        self._settings: ServerSettings = settings
        self._count = count
        self._stopping = False
        self._look_now = False

    def run(self) -> int:
        """Run until SIGTERM or SIGINT; return 0 if all workers stopped in order, else 1."""
        configure_logs(
            str(self._settings.model_config.get("cli_prog_name")), self._settings.log_format, self._settings.log_level
        )
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._on_stop)
        signal.signal(signal.SIGHUP, self._on_look_now)
        try:
            with held_port(self._settings.host, self._settings.port) as port:
                return self._supervise(port)
        except OSError as error:
            _log.error("cannot start", reason=f"{self._settings.host}:{self._settings.port}: {error.strerror}")
            return 1

    def _supervise(self, port: int) -> int:
        workers = [self._start(number, port) for number in range(self._count)]
        try:
            while not self._stopping:
                multiprocessing.connection.wait([worker.process.sentinel for worker in workers], POLL_SECONDS)
                if self._look_now:
                    self._look_now = False
                    _signal(workers, signal.SIGHUP)
                for position, worker in enumerate(workers):
                    if self._stopping or worker.process.is_alive():
                        continue
                    if time.monotonic() - worker.started_at < LEAST_LIFE_SECONDS:
                        _log.error("a worker cannot start", worker=worker.number, exit_status=worker.process.exitcode)
                        return 1
                    _log.error("a worker died: replaced", worker=worker.number, exit_status=worker.process.exitcode)
                    workers[position] = self._start(worker.number, port)
        finally:
            statuses = _stop(workers)
        return 0 if not any(statuses) else 1

    def _start(self, number: int, port: int) -> _Worker:
        metrics_port = self._settings.metrics_port and self._settings.metrics_port + number
        settings = self._settings.model_copy(update={"port": port, "metrics_port": metrics_port})
        process = multiprocessing.get_context("spawn").Process(target=_work, args=(self._run_worker, settings))
        process.start()
        _log.info("worker started", worker=number, process_id=process.pid)
        return _Worker(number, process, time.monotonic())

    def _on_stop(self, _number: int, _frame: object) -> None:
        self._stopping = True

    def _on_look_now(self, _number: int, _frame: object) -> None:
        self._look_now = True


@contextlib.contextmanager
def held_port(host: str, port: int) -> Iterator[int]:
    """Bind the port for workers to share, without listening. Raises OSError where another process has it."""
    family, _, _, _, address = socket.getaddrinfo(host.strip("[]"), port, type=socket.SOCK_STREAM)[0]
    with socket.socket(family, socket.SOCK_STREAM) as holder:
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            # Connections of an earlier server that are still closing do not take the port.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            # Without SO_REUSEPORT, so that it fails even where others would share the port.
            probe.bind(address)
            free_port = int(probe.getsockname()[1])
        holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        holder.bind((address[0], free_port, *address[2:]))
        yield free_port


def _work(run: Callable[[ServerSettings], int], settings: ServerSettings) -> None:
    threading.Thread(target=_end_with_parent, daemon=True).start()
    raise SystemExit(run(settings))


def _end_with_parent() -> None:
    """Stop in order when the supervisor is gone: nothing else would stop this worker."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os.kill(os.getpid(), signal.SIGTERM)


def _signal(workers: list[_Worker], number: signal.Signals) -> None:
    for worker in workers:
        if worker.process.is_alive() and worker.process.pid is not None:
            os.kill(worker.process.pid, number)


def _stop(workers: list[_Worker]) -> list[int | None]:
    _signal(workers, signal.SIGTERM)
    for worker in workers:
        worker.process.join()
    return [worker.process.exitcode for worker in workers]
