"""A keeper of releases that follows a directory, and a loader that does as it is told."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path

from winnow.release.reader import Release
from winnow.serving.metrics import Metrics
from winnow.serving.release_status import ReleaseState
from winnow.serving.releases import HeldRelease, ReleaseKeeper
from winnow.serving.settings import ServerSettings


class Loaded:
    """What a service might make of a release."""

    def __init__(self, release: Release) -> None:
        self.release = release
        self.itself: Loaded | None = self  # a cycle, ended by closing

    async def close(self) -> None:
        self.itself = None


class Loader:
    """Loads releases, or fails as it is told to, and counts the attempts."""

    def __init__(self) -> None:
        self.attempts: list[str] = []
        self.error: Exception | None = None

    def load(self, release: Release) -> Loaded:
        self.attempts.append(release.release_id)
        if self.error is not None:
            raise self.error
        return Loaded(release)


@contextlib.asynccontextmanager
async def following(
    releases: Path,
    loader: Loader,
    retire_seconds: float = 3600,
    derived_bytes: int = 0,
    waits_for: Callable[[], str] = str,
) -> AsyncIterator[ReleaseKeeper[Loaded]]:
    """A keeper that has loaded the current release and looks at CURRENT every few milliseconds."""

    async def waits(_held: HeldRelease[Loaded]) -> str:
        return waits_for()

    keeper = ReleaseKeeper(
        ServerSettings(releases=releases, release_poll_seconds=0.01, release_retire_seconds=retire_seconds),
        frozenset({"golden.safetensors"}),
        lambda release: loader.load(release),
        Metrics(),
        waits_for=waits,
        derived_bytes=lambda _manifest: derived_bytes,
    )
    await keeper.load_current()
    watch = asyncio.ensure_future(keeper.watch())
    yield keeper
    watch.cancel()
    await asyncio.gather(watch, return_exceptions=True)
    await keeper.close()


def state_of(keeper: ReleaseKeeper[Loaded], release_id: str) -> ReleaseState | None:
    return next((status.state for status in keeper.status() if status.release_id == release_id), None)


def reason_of(keeper: ReleaseKeeper[Loaded], release_id: str) -> str:
    return next((status.reason for status in keeper.status() if status.release_id == release_id), "")


async def until(condition: Callable[[], bool]) -> None:
    give_up = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < give_up
        await asyncio.sleep(0.005)


async def some_polls(keeper: ReleaseKeeper[Loaded]) -> None:
    await asyncio.sleep(20 * 0.01)
