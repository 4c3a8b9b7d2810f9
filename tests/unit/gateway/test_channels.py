"""Connections to replicas: found by name, watched, replaced with new certificates."""

import asyncio
import socket
import subprocess
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

from gateway.channels import StageChannels
from gateway.replicas import Replicas
from gateway.settings import GatewaySettings
from winnow.serving.local_stack import free_port
from winnow.serving.metrics import Metrics

MAKE_CERTIFICATES = Path(__file__).parents[3] / "deploy" / "certificates" / "make.sh"
METHOD = "/test.Stage/Answer"
SERVING, NOT_SERVING = health_pb2.HealthCheckResponse.SERVING, health_pb2.HealthCheckResponse.NOT_SERVING


@asynccontextmanager
async def replica(
    address: str, credentials: grpc.ServerCredentials | None = None
) -> AsyncIterator[health.aio.HealthServicer]:
    """A server that answers with its own address; yields its health."""
    server = grpc.aio.server()

    async def answer(_request: bytes, _context: object) -> bytes:
        return address.encode()

    handler: Any = grpc.unary_unary_rpc_method_handler(answer)
    server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler("test.Stage", {"Answer": handler})])
    servicer = health.aio.HealthServicer()
    health_pb2_grpc.add_HealthServicer_to_server(servicer, server)
    if credentials is None:
        server.add_insecure_port(address)
    else:
        server.add_secure_port(address, credentials)
    await server.start()
    try:
        yield servicer
    finally:
        await server.stop(0)


@asynccontextmanager
async def channels(target: str, **settings: Any) -> AsyncIterator[Replicas]:
    replicas = Replicas("test", Metrics())
    opened = StageChannels(target, METHOD, replicas, GatewaySettings(**settings))
    try:
        yield replicas
    finally:
        await opened.close()


async def until(condition: Callable[[], bool]) -> None:
    give_up = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < give_up
        await asyncio.sleep(0.01)


def ready(replicas: Replicas) -> list[str]:
    return sorted(replica.address for replica in replicas if replica.ready)


def test_each_address_is_a_replica_that_is_used_while_it_says_that_it_serves() -> None:
    async def main() -> None:
        first, second = (f"127.0.0.1:{free_port('127.0.0.1')}" for _ in range(2))
        async with channels(f"ipv4:{first},{second}") as replicas, replica(first) as health_of_first, replica(second):
            await until(lambda: ready(replicas) == sorted([f"ipv4:{first}", f"ipv4:{second}"]))
            assert [(await one.ask(b"", timeout=5)).decode() for one in replicas] == [first, second]
            await health_of_first.set("", NOT_SERVING)
            await until(lambda: ready(replicas) == [f"ipv4:{second}"])
            await health_of_first.set("", SERVING)
            await until(lambda: len(ready(replicas)) == 2)

    asyncio.run(main())


def test_a_replica_that_is_killed_and_started_again_is_used_again_with_nothing_held_against_it() -> None:
    async def main() -> None:
        address = f"127.0.0.1:{free_port('127.0.0.1')}"
        async with channels(address) as replicas:
            async with replica(address):
                await until(lambda: len(ready(replicas)) == 1)
            await until(lambda: not ready(replicas))
            (known,) = replicas
            known.ejected = True
            async with replica(address):
                await until(lambda: len(ready(replicas)) == 1)
                assert not known.ejected

    asyncio.run(main())


def test_replicas_are_found_and_left_as_a_name_gets_and_loses_addresses(monkeypatch: pytest.MonkeyPatch) -> None:
    port = free_port("127.0.0.1")
    addresses = ["127.0.0.1"]

    def look_up(*_: object, **__: object) -> list[tuple[object, ...]]:
        if not addresses:
            raise socket.gaierror("no such name")
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port)) for address in addresses]

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    monkeypatch.setattr("gateway.channels.SHORTEST_LOOK_UP_SECONDS", 0.01)

    async def main() -> None:
        async with (
            replica(f"127.0.0.1:{port}"),
            replica(f"127.0.0.2:{port}"),
            channels(f"stage:{port}", stage_lookup_seconds=0.05) as replicas,
        ):
            await until(lambda: ready(replicas) == [f"ipv4:127.0.0.1:{port}"])
            (first,) = replicas
            addresses.append("127.0.0.2")
            await until(lambda: len(ready(replicas)) == 2)
            assert first in list(replicas), "its connection is as good as ever"
            addresses.remove("127.0.0.1")
            await until(lambda: [replica.address for replica in replicas] == [f"ipv4:127.0.0.2:{port}"])
            addresses.clear()
            await asyncio.sleep(0.2)
            assert ready(replicas) == [f"ipv4:127.0.0.2:{port}"], "what is known is used while nobody knows better"

    asyncio.run(main())


def test_certificates_are_those_of_the_name_and_a_connection_is_replaced_only_by_one_that_works(tmp_path: Path) -> None:
    def make_certificates() -> None:
        subprocess.run([MAKE_CERTIFICATES, tmp_path, "localhost"], check=True, timeout=60)

    make_certificates()
    authority, certificate, key = (tmp_path / name for name in ("ca.pem", "client.pem", "client.key"))
    server = grpc.ssl_server_credentials(
        [((tmp_path / "server.key").read_bytes(), (tmp_path / "server.pem").read_bytes())],
        authority.read_bytes(),
        require_client_auth=True,
    )
    files = {"stage_ca_file": authority, "stage_certificate_file": certificate, "stage_key_file": key}

    async def main() -> None:
        port = free_port("127.0.0.1")
        async with (
            replica(f"localhost:{port}", server),
            channels(f"localhost:{port}", release_poll_seconds=0.05, **files) as replicas,
        ):
            await until(lambda: bool(ready(replicas)))
            (used,) = (replica for replica in replicas if replica.ready)
            ask = used.ask
            key.write_text("not a key")
            await asyncio.sleep(1)
            assert used.ask is ask, "with the old certificate, which is good"
            assert used.ready
            await used.ask(b"", timeout=5)
            make_certificates()
            await until(lambda: used.ask is not ask)
            await used.ask(b"", timeout=5)

    asyncio.run(main())
