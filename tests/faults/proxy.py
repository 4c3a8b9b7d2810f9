"""A TCP proxy that behaves like a bad network: delay, jitter, throttling, resets, black holes."""

import asyncio
import contextlib
import random
import socket
import struct
import threading
from collections.abc import Iterator
from dataclasses import dataclass

CHUNK_BYTES = 16 * 1024


@dataclass
class Weather:
    """What the network does at the moment; tests change it while the proxy runs."""

    delay_seconds: float = 0.0
    jitter_seconds: float = 0.0
    bytes_per_second: float | None = None
    black_hole: bool = False
    """Connections stay open, but nothing arrives."""


class Proxy:
    """Forwards connections to one address through the weather."""

    def __init__(self, host: str, upstream_port: int) -> None:
        self.weather = Weather()
        self._host = host
        self._upstream_port = upstream_port
        self._loop = asyncio.new_event_loop()
        self._writers: set[asyncio.StreamWriter] = set()
        self._random = random.Random(0)
        self.port = 0
        self.reset_count = 0
        """Connections that were cut."""

    @property
    def target(self) -> str:
        return f"{self._host}:{self.port}"

    @contextlib.contextmanager
    def running(self) -> Iterator["Proxy"]:
        """Run in a thread until the block ends."""
        started = threading.Event()

        async def serve() -> None:
            server = await asyncio.start_server(self._connect, self._host, 0)
            self.port = server.sockets[0].getsockname()[1]
            started.set()
            await stop.wait()
            server.close()
            for writer in list(self._writers):
                writer.transport.abort()

        stop = asyncio.Event()
        thread = threading.Thread(target=self._loop.run_until_complete, args=(serve(),))
        thread.start()
        started.wait()
        try:
            yield self
        finally:
            self._loop.call_soon_threadsafe(stop.set)
            thread.join()
            for task in asyncio.all_tasks(self._loop):
                task.cancel()
            self._loop.run_until_complete(asyncio.sleep(0))
            self._loop.close()

    def reset_connections(self) -> None:
        """Cut every connection with a TCP reset."""

        def reset() -> None:
            for writer in list(self._writers):
                with contextlib.suppress(OSError):
                    # With a linger time of zero, closing sends a reset.
                    writer.get_extra_info("socket").setsockopt(
                        socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0)
                    )
                writer.transport.abort()
                self.reset_count += 1

        self._loop.call_soon_threadsafe(reset)

    async def _connect(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            upstream_reader, upstream_writer = await asyncio.open_connection(self._host, self._upstream_port)
        except OSError:
            writer.transport.abort()
            return
        self._writers |= {writer, upstream_writer}
        try:
            await asyncio.gather(self._pump(reader, upstream_writer), self._pump(upstream_reader, writer))
        finally:
            for each in (writer, upstream_writer):
                self._writers.discard(each)
                each.transport.abort()

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(CHUNK_BYTES):
                while self.weather.black_hole:  # noqa: ASYNC110 - set from another thread
                    await asyncio.sleep(0.02)
                pause = self.weather.delay_seconds + self._random.random() * self.weather.jitter_seconds
                if self.weather.bytes_per_second:
                    pause += len(data) / self.weather.bytes_per_second
                if pause:
                    await asyncio.sleep(pause)
                writer.write(data)
                await writer.drain()
        writer.transport.abort()
