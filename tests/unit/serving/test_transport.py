"""Both servers keep the same contract; gRPC's own is the reference."""

import asyncio
import gc
import sys
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest

from winnow.serving.settings import ServerSettings
from winnow.serving.transport import make_server

SERVICE = "test.Echo"
MAX_BYTES = 10_000
OPTIONS = [
    ("grpc.so_reuseport", 0),
    ("grpc.max_receive_message_length", MAX_BYTES),
    ("grpc.max_send_message_length", MAX_BYTES),
]
RETRY_PUSHBACK = ("grpc-retry-pushback-ms", "-1")
FOREVER = 60.0

Context = Any
Handle = Callable[[bytes, Context], Awaitable[bytes]]


@pytest.fixture(params=["grpc", "native"])
def settings(request: pytest.FixtureRequest) -> ServerSettings:
    return ServerSettings(transport=request.param)


class PassOn(grpc.aio.ServerInterceptor):
    """Lets every call through, except where it is given another handler."""

    def __init__(self, refusal: Any = None) -> None:
        self.refusal = refusal
        self.metadata: dict[str, str | bytes] = {}

    async def intercept_service(self, continuation: Any, handler_call_details: Any) -> Any:
        self.metadata = dict(handler_call_details.invocation_metadata)
        return self.refusal or await continuation(handler_call_details)


async def echo(message: bytes, _context: Context) -> bytes:
    return message


def run(scenario: Coroutine[Any, Any, None]) -> None:
    """Run it, and collect what it leaves: gRPC's own objects warn where they are collected in another loop."""
    asyncio.run(scenario)
    gc.collect()


@asynccontextmanager
async def serving(
    settings: ServerSettings, handle: Handle = echo, interceptor: PassOn | None = None, grace: float = 5.0
) -> AsyncIterator[tuple[grpc.aio.Server, grpc.aio.Channel]]:
    """A server with the methods `Call`, which `handle` answers, and `Count`, a stream; and a channel to it."""

    async def count(_message: bytes, _context: Context) -> AsyncIterator[bytes]:
        for number in range(3):
            yield bytes([number])

    server = make_server(settings, interceptor or PassOn(), OPTIONS)
    handlers: dict[str, Any] = {
        "Call": grpc.unary_unary_rpc_method_handler(handle),
        "Count": grpc.unary_stream_rpc_method_handler(count),
    }
    server.add_registered_method_handlers(SERVICE, handlers)
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, handlers),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    options = [("grpc.use_local_subchannel_pool", 1), ("grpc.max_send_message_length", -1)]
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}", options=options) as channel:
        yield server, channel
    await server.stop(grace)


def call(
    channel: grpc.aio.Channel, message: bytes = b"", method: str = "Call", timeout: float | None = 10.0, **more: Any
) -> "grpc.aio.UnaryUnaryCall[bytes, bytes]":
    stub: Any = channel.unary_unary(f"/{SERVICE}/{method}")
    return stub(message, timeout=timeout, **more)  # type: ignore[no-any-return]


async def status_of(unary_call: Awaitable[bytes]) -> grpc.StatusCode:
    try:
        await unary_call
    except grpc.aio.AioRpcError as error:
        return error.code()
    return grpc.StatusCode.OK


def test_a_call_is_answered_with_what_its_handler_returns(settings: ServerSettings) -> None:
    async def scenario() -> None:
        async with serving(settings) as (_, channel):
            assert await call(channel, b"\x00 and more") == b"\x00 and more"

    run(scenario())


def test_interceptor_and_handler_see_the_metadata(settings: ServerSettings) -> None:
    seen: dict[str, str | bytes] = {}

    async def handle(_message: bytes, context: Context) -> bytes:
        seen.update(context.invocation_metadata())
        return b""

    async def scenario() -> None:
        interceptor = PassOn()
        sent: dict[str, str | bytes] = {"authorization": "Bearer x", "some-bin": b"\xff\x00"}
        async with serving(settings, handle, interceptor) as (_, channel):
            await call(channel, metadata=tuple(sent.items()))
        assert sent.items() <= interceptor.metadata.items()
        assert sent.items() <= seen.items()

    run(scenario())


def test_the_time_left_is_known_and_is_none_without_a_deadline(settings: ServerSettings) -> None:
    remaining: list[float | None] = []

    async def handle(_message: bytes, context: Context) -> bytes:
        remaining.append(context.time_remaining())
        return b""

    async def scenario() -> None:
        async with serving(settings, handle) as (_, channel):
            await call(channel, timeout=FOREVER)
            await call(channel, timeout=None)

    run(scenario())
    timed, untimed = remaining
    assert timed is not None
    assert FOREVER - 30 < timed < FOREVER + 1
    assert untimed is None


def test_the_status_of_an_abort_reaches_the_caller_with_its_details(settings: ServerSettings) -> None:
    async def handle(_message: bytes, context: Context) -> bytes:
        await context.abort(
            grpc.StatusCode.RESOURCE_EXHAUSTED, "too much: 100 %, ünïcode", (("grpc-status-details-bin", b"\x08\x08"),)
        )
        return b"not reached"

    async def scenario() -> None:
        async with serving(settings, handle) as (_, channel):
            with pytest.raises(grpc.aio.AioRpcError) as failure:
                await call(channel)
        assert failure.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert failure.value.details() == "too much: 100 %, ünïcode"
        assert dict(failure.value.trailing_metadata())["grpc-status-details-bin"] == b"\x08\x08"

    run(scenario())


def test_a_status_with_a_retry_pushback_is_sent_at_once(settings: ServerSettings) -> None:
    """The native front refuses gRPC's own keys: the call would have no status at all."""

    async def handle(_message: bytes, context: Context) -> bytes:
        await context.abort(grpc.StatusCode.UNAVAILABLE, "away", (RETRY_PUSHBACK, ("other", "kept")))
        return b"not reached"

    async def scenario() -> None:
        async with serving(settings, handle) as (_, channel):
            with pytest.raises(grpc.aio.AioRpcError) as failure:
                await call(channel, timeout=FOREVER)
        assert failure.value.code() is grpc.StatusCode.UNAVAILABLE
        metadata = dict(failure.value.trailing_metadata())
        assert metadata["other"] == "kept"
        assert (metadata.get(RETRY_PUSHBACK[0]) == RETRY_PUSHBACK[1]) == (settings.transport == "grpc")

    run(scenario())


def test_a_handler_is_cancelled_when_its_caller_leaves(settings: ServerSettings) -> None:
    async def scenario() -> None:
        begun, cancelled = asyncio.Event(), asyncio.Event()

        async def handle(_message: bytes, _context: Context) -> bytes:
            begun.set()
            try:
                await asyncio.sleep(FOREVER)
            except asyncio.CancelledError:
                cancelled.set()
                raise
            return b""

        async with serving(settings, handle) as (_, channel):
            left = call(channel, timeout=FOREVER)
            await begun.wait()
            left.cancel()
            await asyncio.wait_for(cancelled.wait(), 10)

            begun.clear()
            cancelled.clear()
            assert await status_of(call(channel, timeout=0.2)) is grpc.StatusCode.DEADLINE_EXCEEDED
            await asyncio.wait_for(cancelled.wait(), 10)

    run(scenario())


def test_a_burst_of_cancelled_calls_leaves_nothing_behind_and_others_are_answered(settings: ServerSettings) -> None:
    """Many are cancelled before their handler has begun."""

    async def handle(message: bytes, _context: Context) -> bytes:
        await asyncio.sleep(0.01)
        return message

    async def scenario() -> None:
        async with serving(settings, handle) as (server, channel):
            for _ in range(10):
                leaving = [call(channel, timeout=FOREVER) for _ in range(15)]
                await asyncio.sleep(0.001)
                for one in leaving:
                    one.cancel()
                assert await call(channel, b"others") == b"others"
            if settings.transport == "native":
                assert server._tasks == {}  # type: ignore[attr-defined]

    run(scenario())


def test_a_message_that_is_too_large_is_refused_in_both_directions(settings: ServerSettings) -> None:
    async def double(message: bytes, _context: Context) -> bytes:
        return 2 * message

    async def scenario() -> None:
        async with serving(settings, double) as (_, channel):
            assert await status_of(call(channel, bytes(MAX_BYTES // 2))) is grpc.StatusCode.OK
            assert await status_of(call(channel, bytes(MAX_BYTES // 2 + 1))) is grpc.StatusCode.RESOURCE_EXHAUSTED
            assert await status_of(call(channel, bytes(MAX_BYTES + 1))) is grpc.StatusCode.RESOURCE_EXHAUSTED

    run(scenario())


def test_a_compressed_message_counts_at_its_full_size(settings: ServerSettings) -> None:
    async def scenario() -> None:
        async with serving(settings) as (_, channel):
            gzip = grpc.Compression.Gzip
            assert await call(channel, bytes(MAX_BYTES), compression=gzip) == bytes(MAX_BYTES)
            too_large = call(channel, bytes(MAX_BYTES + 1), compression=gzip)
            assert await status_of(too_large) is grpc.StatusCode.RESOURCE_EXHAUSTED

    run(scenario())


def test_streams_and_unknown_methods_are_answered_too(settings: ServerSettings) -> None:
    async def scenario() -> None:
        async with serving(settings) as (_, channel):
            counting: Any = channel.unary_stream(f"/{SERVICE}/Count")
            assert [message async for message in counting(b"", timeout=10)] == [b"\x00", b"\x01", b"\x02"]
            assert await status_of(call(channel, method="Other")) is grpc.StatusCode.UNIMPLEMENTED

    run(scenario())


@pytest.mark.parametrize("make_handler", [grpc.unary_unary_rpc_method_handler, grpc.stream_unary_rpc_method_handler])
def test_an_interceptor_can_refuse_a_call(settings: ServerSettings, make_handler: Callable[..., Any]) -> None:
    async def refuse(_unread: Any, context: Context) -> bytes:
        await context.abort(grpc.StatusCode.UNAUTHENTICATED, "who are you?")
        return b"not reached"

    async def scenario() -> None:
        async with serving(settings, interceptor=PassOn(make_handler(refuse))) as (_, channel):
            assert await status_of(call(channel)) is grpc.StatusCode.UNAUTHENTICATED

    run(scenario())


def test_stopping_waits_for_calls_in_flight_and_refuses_later_ones(settings: ServerSettings) -> None:
    async def scenario() -> None:
        begun, release = asyncio.Semaphore(0), asyncio.Event()

        async def handle(_message: bytes, _context: Context) -> bytes:
            begun.release()
            await release.wait()
            return bytes(MAX_BYTES)

        async with serving(settings, handle) as (server, channel):
            in_flight = [asyncio.ensure_future(status_of(call(channel))) for _ in range(50)]
            for _ in in_flight:
                await begun.acquire()
            stopping = asyncio.ensure_future(server.stop(FOREVER))
            await asyncio.sleep(0.2)
            assert await status_of(call(channel)) is grpc.StatusCode.UNAVAILABLE
            release.set()
            assert set(await asyncio.gather(*in_flight)) == {grpc.StatusCode.OK}
            await stopping

    run(scenario())


def test_a_call_that_outlasts_the_grace_is_ended_as_unavailable(settings: ServerSettings) -> None:
    async def scenario() -> None:
        begun = asyncio.Event()

        async def handle(_message: bytes, _context: Context) -> bytes:
            begun.set()
            await asyncio.sleep(FOREVER)
            return b""

        async with serving(settings, handle) as (server, channel):
            overdue = asyncio.ensure_future(status_of(call(channel, timeout=FOREVER)))
            await begun.wait()
            await server.stop(0.1)
            assert await overdue is grpc.StatusCode.UNAVAILABLE

    run(scenario())


def test_a_port_that_is_taken_is_an_error(settings: ServerSettings) -> None:
    async def scenario() -> None:
        server, second = (make_server(settings, PassOn(), OPTIONS) for _ in range(2))
        port = server.add_insecure_port("127.0.0.1:0")
        with pytest.raises(RuntimeError):
            second.add_insecure_port(f"127.0.0.1:{port}")
        await server.start()
        await server.stop(None)

    run(scenario())


def test_servers_can_share_a_port(settings: ServerSettings) -> None:
    async def scenario() -> None:
        options = [("grpc.so_reuseport", 1), *OPTIONS[1:]]
        first, second = (make_server(settings, PassOn(), options) for _ in range(2))
        port = first.add_insecure_port("127.0.0.1:0")
        assert second.add_insecure_port(f"127.0.0.1:{port}") == port
        for server in (first, second):
            await server.start()
            await server.stop(None)

    run(scenario())


def test_the_native_server_stops_without_leaving_threads_or_files(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    before = set(threading.enumerate())

    async def scenario() -> None:
        async with serving(ServerSettings(transport="native")) as (_, channel):
            await call(channel)

    run(scenario())
    assert list(tmp_path.iterdir()) == []
    left = {thread.name for thread in set(threading.enumerate()) - before}
    assert not {name for name in left if "poll" not in name}  # that one is gRPC's own


def test_an_error_outside_of_the_handler_ends_the_call_and_tells_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    class Broken(PassOn):
        async def intercept_service(self, continuation: Any, handler_call_details: Any) -> Any:
            raise LookupError("a secret")

    async def scenario() -> None:
        async with serving(ServerSettings(transport="native"), interceptor=Broken()) as (_, channel):
            with pytest.raises(grpc.aio.AioRpcError) as failure:
                await call(channel)
        assert failure.value.code() is grpc.StatusCode.INTERNAL
        assert "secret" not in (failure.value.details() or "")

    run(scenario())


@pytest.mark.parametrize("setting", ["tls_certificate_file", "tls_key_file", "tls_client_ca_file"])
def test_the_native_transport_is_refused_where_tls_is_asked_for(setting: str) -> None:
    settings = ServerSettings.model_validate({"transport": "native", setting: "x.pem"})
    with pytest.raises(ValueError, match="the native transport has no TLS"):
        make_server(settings, PassOn(), OPTIONS)


def test_the_native_transport_without_its_extra_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pygrpc_native", None)
    monkeypatch.delitem(sys.modules, "winnow.serving.native_server", raising=False)
    with pytest.raises(ValueError, match=r"pip install 'winnow-recommender\[native\]'"):
        make_server(ServerSettings(transport="native"), PassOn(), OPTIONS)
