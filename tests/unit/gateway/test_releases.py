"""Which release a request is answered from."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import grpc
import pytest
from grpc_health.v1 import health, health_pb2_grpc

from gateway.releases import ServedReleases
from gateway.served_release import ServedRelease
from gateway.settings import GatewaySettings
from gateway.stage_calls import StageFailure
from tests.releases import write_random_release
from winnow.rpc.errors import UnavailableError
from winnow.serving.local_stack import free_port
from winnow.serving.metrics import Metrics

NOT_HELD = StageFailure("ranking", grpc.StatusCode.FAILED_PRECONDITION)
Respond = Callable[[ServedRelease, bool], Awaitable[str]]


def answer_with_two_releases(directory: Path, respond: Respond) -> tuple[str, str, str]:
    """Ask a gateway that serves a release and holds a newer one, which no stage has; return both ids and the answer."""

    async def main() -> tuple[str, str, str]:
        old = write_random_release(directory, seed=1)
        # Nobody listens there: no stage ever says that it holds the newer release.
        settings = GatewaySettings(
            releases=directory,
            release_poll_seconds=0.01,
            candidate_target="127.0.0.1:1",
            ranking_target="127.0.0.1:1",
        )
        releases = ServedReleases(settings, Metrics())
        await releases.keeper.load_current()
        new = write_random_release(directory, seed=2)
        watching = asyncio.create_task(releases.watch())
        while {status.state.name for status in releases.keeper.status()} != {"CURRENT", "WAITING"}:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        try:
            return old, new, await releases.answer(respond)
        finally:
            watching.cancel()
            await asyncio.gather(watching, return_exceptions=True)
            await releases.close()

    return asyncio.run(main())


def test_the_current_release_answers(tmp_path: Path) -> None:
    async def respond(release: ServedRelease, other_release: bool) -> str:
        assert other_release
        return release.catalogue.release_id

    old, _, answer = answer_with_two_releases(tmp_path, respond)
    assert answer == old


def test_another_one_that_is_held_answers_as_a_whole_where_a_stage_lacks_the_current_one(tmp_path: Path) -> None:
    asked = []

    async def respond(release: ServedRelease, other_release: bool) -> str:
        asked.append((release.catalogue.release_id, other_release))
        if len(asked) == 1:
            raise NOT_HELD
        return release.catalogue.release_id

    old, new, answer = answer_with_two_releases(tmp_path, respond)
    assert answer == new
    assert asked == [(old, True), (new, False)]


def test_a_stage_that_fails_otherwise_is_no_reason_to_try_another_release(tmp_path: Path) -> None:
    async def respond(release: ServedRelease, other_release: bool) -> str:
        raise StageFailure("ranking", grpc.StatusCode.INTERNAL)

    with pytest.raises(StageFailure, match="INTERNAL"):
        answer_with_two_releases(tmp_path, respond)


def test_before_a_release_is_loaded_the_service_is_unavailable(tmp_path: Path) -> None:
    async def main() -> None:
        releases = ServedReleases(GatewaySettings(releases=tmp_path), Metrics())
        try:
            with pytest.raises(UnavailableError, match="being loaded"):
                await releases.answer(lambda release, other_release: asyncio.sleep(0, "never"))
        finally:
            await releases.close()

    asyncio.run(main())


@asynccontextmanager
async def gateway_releases(directory: Path, stage_port: int, wait_seconds: float) -> AsyncIterator[ServedReleases]:
    """What a gateway holds whose stages both listen on the port, if anything does."""
    target = f"127.0.0.1:{stage_port}"
    settings = GatewaySettings(
        releases=directory, candidate_target=target, ranking_target=target, stage_wait_seconds=wait_seconds
    )
    releases = ServedReleases(settings, Metrics())
    try:
        yield releases
    finally:
        await releases.close()


def test_a_gateway_waits_at_its_start_until_it_has_met_its_stages(tmp_path: Path) -> None:
    async def main() -> None:
        write_random_release(tmp_path)
        port = free_port("127.0.0.1")
        async with gateway_releases(tmp_path, port, wait_seconds=60) as releases:
            starting = asyncio.create_task(releases.start())
            await asyncio.sleep(0.3)
            assert not starting.done()
            stage = grpc.aio.server()
            health_pb2_grpc.add_HealthServicer_to_server(health.aio.HealthServicer(), stage)
            stage.add_insecure_port(f"127.0.0.1:{port}")
            await stage.start()
            await asyncio.wait_for(starting, 20)
            await stage.stop(0)

    asyncio.run(main())


def test_a_gateway_serves_without_its_stages_after_a_while(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    async def main() -> None:
        write_random_release(tmp_path)
        async with gateway_releases(tmp_path, free_port("127.0.0.1"), wait_seconds=0.1) as releases:
            await releases.start()
            assert releases.current.catalogue.release_id

    asyncio.run(main())
    assert "serving without a stage" in capsys.readouterr().out + caplog.text
