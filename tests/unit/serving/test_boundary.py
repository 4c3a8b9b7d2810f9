"""The edge of a service in front of a handler that can be told what to do, over real connections."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

import grpc
import pytest
from google.rpc import error_details_pb2, status_pb2
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

from tests.unit.serving.conftest import Configure
from winnow.rpc.errors import STATUS_DETAILS, InvalidRequestError, ServiceError
from winnow.rpc.violations import Violation, violations_of
from winnow.serving.boundary import LOOKED_INTO_FROM_BYTES, Boundary
from winnow.serving.logs import LogFormat
from winnow.serving.metrics import Metrics
from winnow.serving.settings import ServerSettings
from winnow.serving.tracing import Spans
from winnow.v1 import catalogue_pb2, catalogue_pb2_grpc

METHOD = "/winnow.v1.CatalogueService/BatchGetItems"
Handle = Callable[[catalogue_pb2.BatchGetItemsRequest], Awaitable[catalogue_pb2.BatchGetItemsResponse]]


@dataclass
class Catalogue(catalogue_pb2_grpc.CatalogueServiceServicer):
    """Answers as it is told to; keeps the requests."""

    handle: Handle | None = None
    requests: list[catalogue_pb2.BatchGetItemsRequest] = field(default_factory=list)

    async def BatchGetItems(
        self, request: catalogue_pb2.BatchGetItemsRequest, _context: Any
    ) -> catalogue_pb2.BatchGetItemsResponse:
        self.requests.append(request)
        return await self.handle(request) if self.handle else catalogue_pb2.BatchGetItemsResponse(release_id="r")

    async def SearchItems(self, _request: Any, _context: Any) -> catalogue_pb2.SearchItemsResponse:
        raise NotImplementedError

    async def GetReleaseSchema(self, _request: Any, _context: Any) -> catalogue_pb2.GetReleaseSchemaResponse:
        raise NotImplementedError

    async def GetRelease(self, _request: Any, _context: Any) -> catalogue_pb2.GetReleaseResponse:
        raise NotImplementedError


@dataclass
class Served:
    catalogue: Catalogue
    channel: grpc.aio.Channel
    metrics: Metrics

    async def call(self, *item_ids: str) -> catalogue_pb2.BatchGetItemsResponse:
        answer: catalogue_pb2.BatchGetItemsResponse = await self.start(*item_ids)
        return answer

    def start(self, *item_ids: str) -> Any:
        stub = catalogue_pb2_grpc.CatalogueServiceStub(self.channel)
        return stub.BatchGetItems(catalogue_pb2.BatchGetItemsRequest(item_ids=item_ids), timeout=10)

    async def call_raw(self, data: bytes) -> bytes:
        method: Any = self.channel.unary_unary(METHOD)
        answer: bytes = await method(data, timeout=10)
        return answer

    def in_flight(self) -> float | None:
        return self.metrics.registry.get_sample_value("winnow_requests_in_flight")


@contextlib.asynccontextmanager
async def served(handle: Handle | None = None, **settings: Any) -> AsyncIterator[Served]:
    """A server with that handler, and a connection to it."""
    metrics = Metrics()
    boundary = Boundary(ServerSettings(**settings), metrics, Spans(), [])
    server = grpc.aio.server(interceptors=[boundary])
    catalogue = Catalogue(handle)
    catalogue_pb2_grpc.add_CatalogueServiceServicer_to_server(catalogue, server)
    health_pb2_grpc.add_HealthServicer_to_server(health.aio.HealthServicer(), server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        options = [("grpc.use_local_subchannel_pool", 1)]
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}", options=options) as channel:
            yield Served(catalogue, channel, metrics)
    finally:
        await server.stop(0)


async def eventually(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not condition():  # noqa: ASYNC110 - nothing signals what the other side of a connection has done
            await asyncio.sleep(0.01)


async def failure_of(call: Awaitable[Any]) -> grpc.aio.AioRpcError:
    with pytest.raises(grpc.aio.AioRpcError) as failure:
        await call
    return failure.value


def test_calls_beyond_the_limit_are_rejected_and_say_when_to_try_again() -> None:
    async def main() -> None:
        go_on = asyncio.Event()

        async def wait(_request: catalogue_pb2.BatchGetItemsRequest) -> catalogue_pb2.BatchGetItemsResponse:
            await go_on.wait()
            return catalogue_pb2.BatchGetItemsResponse()

        async with served(wait, max_calls_in_flight=2) as service:
            waiting = [asyncio.ensure_future(service.call()) for _ in range(2)]
            await eventually(lambda: len(service.catalogue.requests) == 2)
            failure = await failure_of(service.call())
            assert failure.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
            assert failure.details() == "too many calls are in flight"
            retry_info = error_details_pb2.RetryInfo()
            status = status_pb2.Status.FromString(dict(failure.trailing_metadata())[STATUS_DETAILS])
            assert status.details[0].Unpack(retry_info)
            assert retry_info.retry_delay.ToTimedelta().total_seconds() == 0.5

            assert service.in_flight() == 2
            answer = await health_pb2_grpc.HealthStub(service.channel).Check(health_pb2.HealthCheckRequest(), timeout=5)
            assert answer.status == health_pb2.HealthCheckResponse.SERVING

            go_on.set()
            await asyncio.gather(*waiting)
            await eventually(lambda: service.in_flight() == 0)
            await service.call()

    asyncio.run(main())


def test_a_rejected_call_is_not_read() -> None:
    async def main() -> None:
        never = asyncio.Event()

        async def wait(_request: catalogue_pb2.BatchGetItemsRequest) -> catalogue_pb2.BatchGetItemsResponse:
            await never.wait()
            raise AssertionError

        async with served(wait, max_calls_in_flight=1) as service:
            waiting = service.start()
            await eventually(lambda: len(service.catalogue.requests) == 1)
            # No message is ever sent on this one.
            method: Any = service.channel.stream_unary(METHOD)
            call = method(timeout=10)
            failure = await failure_of(call)
            assert failure.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
            waiting.cancel()

    asyncio.run(main())


def test_calls_that_never_get_to_their_handler_are_not_counted_for_ever() -> None:
    async def main() -> None:
        async with served(max_calls_in_flight=2) as service:
            method: Any = service.channel.stream_unary(METHOD)
            unfinished = [method(timeout=10) for _ in range(2)]
            await eventually(lambda: service.in_flight() == 2)
            for call in unfinished:
                call.cancel()
            await eventually(lambda: service.in_flight() == 0)
            assert (await service.call()).release_id == "r"
            assert len(service.catalogue.requests) == 1

    asyncio.run(main())


@pytest.mark.parametrize("tiny", [b"\x0a\x00", b"\x10\x01"])
def test_a_large_message_with_more_fields_than_any_needs_is_not_parsed(tiny: bytes) -> None:
    async def main() -> None:
        async with served() as service:
            failure = await failure_of(service.call_raw(tiny * (LOOKED_INTO_FROM_BYTES // 2)))
            assert failure.code() is grpc.StatusCode.INVALID_ARGUMENT
            assert violations_of(failure) == [Violation("request", "has more fields than any request needs")]
            assert service.catalogue.requests == []

    asyncio.run(main())


def test_a_large_message_is_taken_where_its_fields_are_few() -> None:
    async def main() -> None:
        async with served() as service:
            await service.call(*["x" * 1000] * 900)
            assert len(service.catalogue.requests[0].item_ids) == 900
            failure = await failure_of(service.call_raw(b"\x0a\x01\xff\x0a\xe0\xa7\x12" + b"x" * 300_000))
            assert violations_of(failure) == [Violation("item_ids[0]", "is not valid UTF-8")]
            failure = await failure_of(service.call_raw(b"\x0a\xff\xff\xff\x7f" + b"x" * 300_000))
            assert violations_of(failure) == [Violation("request", "is not a valid message of this method")]

    asyncio.run(main())


WATCHED = "watched-by-user-4711"


@pytest.mark.parametrize("log_format", ["human", "json"])
@pytest.mark.parametrize("hang_up", [False, True])
@pytest.mark.parametrize(
    "make_error",
    [
        lambda: KeyError(WATCHED),
        lambda: RuntimeError(f"no such item: {WATCHED}"),
        lambda: InvalidRequestError([Violation("history[0]", f"{WATCHED} is wrong")]),
        lambda: ServiceError(WATCHED),
    ],
    ids=["KeyError", "RuntimeError", "InvalidRequestError", "ServiceError"],
)
def test_what_callers_send_is_not_logged(
    configure: Configure,
    log_format: LogFormat,
    hang_up: bool,
    make_error: Callable[[], Exception],
    capfd: pytest.CaptureFixture[str],
) -> None:
    """Neither where a call fails, nor where its caller hangs up meanwhile."""
    ended = asyncio.Event()

    async def fail(_request: catalogue_pb2.BatchGetItemsRequest) -> catalogue_pb2.BatchGetItemsResponse:
        try:
            await asyncio.sleep(10 if hang_up else 0)
        finally:
            ended.set()
            raise make_error()

    async def main() -> None:
        configure(log_format, "info")
        async with served(fail) as service:
            for _ in range(3):
                ended.clear()
                call = service.start(*[f"{WATCHED}-{number}" for number in range(100)])
                if hang_up:
                    await eventually(lambda: len(service.catalogue.requests) > 0)
                    service.catalogue.requests.clear()
                    call.cancel()
                else:
                    await failure_of(call)
                await ended.wait()
            await eventually(lambda: service.in_flight() == 0)

    asyncio.run(main())
    log = capfd.readouterr().err
    assert WATCHED not in log
    if not isinstance(make_error(), ServiceError):
        assert log.count("internal error") == 3
        assert log.count("in fail") >= 3, "where it was raised is logged"


def test_what_an_error_says_is_logged_for_debugging_only(
    configure: Configure, capfd: pytest.CaptureFixture[str]
) -> None:
    async def fail(_request: catalogue_pb2.BatchGetItemsRequest) -> catalogue_pb2.BatchGetItemsResponse:
        raise KeyError(WATCHED)

    async def main() -> str:
        configure("json", "debug")
        async with served(fail) as service:
            return (await failure_of(service.call())).details() or ""

    seen = asyncio.run(main())
    log = capfd.readouterr().err
    assert seen.startswith("internal error ")
    assert log.count(seen.removeprefix("internal error ")) == 2
    assert WATCHED in log
