"""One service as a real process, for tests that talk to it alone."""

import contextlib
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc

from winnow.rpc.health import healthy
from winnow.serving.local_stack import free_port


@dataclass(frozen=True)
class RunningService:
    process: "subprocess.Popen[str]"
    target: str
    channel: grpc.Channel


def start(module: str, *flags: str) -> "subprocess.Popen[str]":
    # No stage runs here for which a gateway might wait.
    alone = ["--stage-wait-seconds=0"] if module == "gateway" else []
    return subprocess.Popen([sys.executable, "-m", module, *alone, *flags], stderr=subprocess.PIPE, text=True)


@contextlib.contextmanager
def running(module: str, releases: Path, *flags: str) -> Iterator[RunningService]:
    """Start a service on a free port, wait until it is healthy, and kill it in the end if it still runs."""
    port = free_port("127.0.0.1")
    process = start(module, f"--releases={releases}", f"--port={port}", "--drain-seconds=0", *flags)
    target = f"127.0.0.1:{port}"
    try:
        wait_until_healthy(process, target)
        with grpc.insecure_channel(target) as channel:
            yield RunningService(process, target, channel)
    finally:
        if process.poll() is None:
            process.kill()
            process.communicate()


def wait_until_healthy(
    process: "subprocess.Popen[Any]", target: str, timeout_seconds: float = 60, *, hint: str = ""
) -> None:
    """Return when the process serves at the target. Fails with what it has written to a pipe, or else the hint."""
    give_up = time.monotonic() + timeout_seconds
    while not healthy(target):
        assert process.poll() is None, process.communicate()[1] or f"the server at {target} has ended {hint}"
        assert time.monotonic() < give_up, f"{target} is not healthy after {timeout_seconds:g} seconds {hint}"
        time.sleep(0.05)
