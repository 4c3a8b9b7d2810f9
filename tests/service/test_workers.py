"""Several gateway processes behind one port: all serve, the dead are replaced, signals reach all, nothing hides."""

import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.service.process import running, start
from winnow.rpc.health import healthy
from winnow.serving.local_stack import free_port

# The state of a socket in the kernel's table.
LISTENING = "0A"


def workers_of(supervisor: "subprocess.Popen[str]") -> set[int]:
    """Process ids of the workers; Python's resource tracker is a child too and no worker."""
    children = Path(f"/proc/{supervisor.pid}/task/{supervisor.pid}/children").read_text().split()
    return {int(pid) for pid in children if b"spawn_main" in Path(f"/proc/{pid}/cmdline").read_bytes()}


def eventually(holds: Callable[[], bool], seconds: float = 30) -> None:
    give_up = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < give_up, f"not within {seconds} seconds"
        time.sleep(0.05)


def listeners(port: int) -> int:
    """How many sockets listen on the port; gRPC listens on IPv4 through IPv6."""
    lines = [line.split() for table in ("tcp", "tcp6") for line in Path(f"/proc/net/{table}").read_text().splitlines()]
    return sum(fields[1].endswith(f":{port:04X}") and fields[3] == LISTENING for fields in lines)


def test_workers_share_the_port_the_dead_are_replaced_and_all_stop(releases: Path) -> None:
    with running("gateway", releases, "--workers=2") as service:
        port = int(service.target.split(":")[1])
        eventually(lambda: listeners(port) == 2)
        first, second = workers_of(service.process)
        # Beyond the time in which a death would be taken for a worker that cannot start.
        time.sleep(5)
        os.kill(first, signal.SIGKILL)
        eventually(lambda: len(workers_of(service.process) - {first}) == 2 and listeners(port) == 2)
        assert second in workers_of(service.process)
        eventually(lambda: healthy(service.target))

        service.process.send_signal(signal.SIGTERM)
        service.process.communicate(timeout=20)
        assert service.process.returncode == 0
        assert listeners(port) == 0


def test_workers_end_with_their_supervisor(releases: Path) -> None:
    with running("gateway", releases, "--workers=2") as service:
        port = int(service.target.split(":")[1])
        eventually(lambda: listeners(port) == 2)
        service.process.kill()
        service.process.communicate()
        eventually(lambda: listeners(port) == 0)


@pytest.mark.parametrize("flags", [["--workers=2"], []])
def test_a_shared_port_is_taken_for_everybody_else(releases: Path, flags: list[str]) -> None:
    with running("gateway", releases, "--workers=2") as service:
        port = service.target.split(":")[1]
        second = start("gateway", f"--releases={releases}", f"--port={port}", *flags)
        _, errors = second.communicate(timeout=30)
        assert second.returncode == 1
        assert "cannot start" in errors


def test_a_port_that_is_in_use_is_named(releases: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        process = start("gateway", f"--releases={releases}", f"--port={port}", "--workers=2")
        _, errors = process.communicate(timeout=30)
        assert process.returncode == 1
        assert f"127.0.0.1:{port}: Address already in use" in errors


def test_workers_that_cannot_start_fail_as_a_whole(tmp_path: Path) -> None:
    process = start("gateway", f"--releases={tmp_path}", f"--port={free_port('127.0.0.1')}", "--workers=2")
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 1
    assert f"no release in {tmp_path}" in " ".join(errors.split())
    assert "a worker cannot start" in errors
