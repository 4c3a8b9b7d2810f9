"""Readiness and liveness as gRPC's health service tells them."""

import asyncio
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2

from winnow.serving.health import LIVENESS, Health

Status = health_pb2.HealthCheckResponse.ServingStatus


class Caller:
    """The context of a call: keeps what it is sent, from when it begins to read."""

    def __init__(self, *, reading: bool = True) -> None:
        self.reading = asyncio.Event()
        if reading:
            self.reading.set()
        self.received: list[str] = []

    async def write(self, response: health_pb2.HealthCheckResponse) -> None:
        await self.reading.wait()
        self.received.append(Status.Name(response.status))

    async def abort(self, code: grpc.StatusCode, details: str) -> None:
        raise grpc.aio.AbortError(code)


async def checked(health: Health, service: str) -> str:
    request = health_pb2.HealthCheckRequest(service=service)
    return str(Status.Name((await health.Check(request, Caller())).status))  # type: ignore[arg-type]


def watch(health: Health, service: str, caller: Caller) -> "asyncio.Task[None]":
    context: Any = caller
    return asyncio.ensure_future(health.Watch(health_pb2.HealthCheckRequest(service=service), context))


async def settle() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


def test_a_new_service_is_alive_and_not_ready() -> None:
    async def scenario() -> None:
        health = Health(["a.B"])
        assert await checked(health, "") == "NOT_SERVING"
        assert await checked(health, "a.B") == "NOT_SERVING"
        assert await checked(health, LIVENESS) == "SERVING"
        health.set_ready(True)
        assert await checked(health, "") == "SERVING"
        assert await checked(health, "a.B") == "SERVING"

    asyncio.run(scenario())


def test_a_service_that_does_not_exist_is_not_found() -> None:
    async def scenario() -> None:
        with pytest.raises(grpc.aio.AbortError):
            await checked(Health(["a.B"]), "other")

    asyncio.run(scenario())


def test_watchers_are_told_of_every_change() -> None:
    async def scenario() -> None:
        health = Health(["a.B"])
        watching, other = Caller(), Caller()
        tasks = [watch(health, "a.B", watching), watch(health, "other", other)]
        for ready in (True, True, False):
            await settle()
            health.set_ready(ready)
        await settle()
        assert watching.received == ["NOT_SERVING", "SERVING", "NOT_SERVING"]
        assert other.received == ["SERVICE_UNKNOWN"]
        for task in tasks:
            task.cancel()

    asyncio.run(scenario())


def test_a_watcher_that_does_not_read_holds_nobody_up() -> None:
    async def scenario() -> None:
        health = Health([])
        slow, quick = Caller(reading=False), Caller()
        tasks = [watch(health, "", slow), watch(health, "", quick)]
        for ready in (True, False, True):
            await settle()
            health.set_ready(ready)
        await settle()
        assert await checked(health, "") == "SERVING"
        assert quick.received[-1] == "SERVING"
        slow.reading.set()
        await settle()
        assert slow.received == ["NOT_SERVING", "SERVING"], "what it missed is left out"
        for task in tasks:
            task.cancel()

    asyncio.run(scenario())
