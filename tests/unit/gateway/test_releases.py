"""Which release a request is answered from."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

import grpc
import pytest

from gateway.releases import ServedRelease, ServedReleases
from gateway.settings import GatewaySettings
from gateway.stage_calls import StageFailure
from tests.releases import write_random_release
from winnow.rpc.errors import UnavailableError
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
