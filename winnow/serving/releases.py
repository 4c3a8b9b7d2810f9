"""Which releases a service holds: the one that CURRENT names, and those before it while somebody still uses them.

A new release is verified, loaded and checked in a thread of its own, beside the one that is served. Only when all of
that has succeeded, and `adopt` agrees, do new requests go to it. A release that fails is refused with a reason and the
one that is served stays.
"""

import asyncio
import os
import threading
import time
from collections.abc import Awaitable, Callable, Set
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Generic, TypeVar

import structlog

from winnow.release.golden import GoldenMismatchError
from winnow.release.reader import Release, ReleaseError, current_release_id, open_release
from winnow.serving.errors import ReleaseNotHeldError, UnavailableError
from winnow.serving.memory import available_bytes
from winnow.serving.metrics import Metrics

_log = structlog.get_logger(__name__)

Loaded = TypeVar("Loaded")

# Tables are copied once while they are loaded, and what is derived from them takes about half as much again.
MEMORY_PER_FILE_BYTE = 1.5
# Loading competes with serving for the cores: it gives way.
LOADING_NICENESS = 10


class ReleaseState(Enum):
    """What a service does with a release."""

    CURRENT = "current"
    WAITING = "waiting"
    RETIRING = "retiring"
    LOADING = "loading"
    REFUSED = "refused"


@dataclass(frozen=True, kw_only=True)
class ReleaseStatus:
    """One release, as operators see it."""

    release_id: str
    state: ReleaseState
    reason: str = ""
    in_flight_count: int = 0


@dataclass(kw_only=True, eq=False)
class HeldRelease(Generic[Loaded]):
    """A release in memory, and who uses it."""

    release_id: str
    loaded: Loaded
    in_flight_count: int = 0
    used_at: float = 0.0
    """Monotonic time of the latest use's end."""

    def __enter__(self) -> Loaded:
        """Keep the release from being dropped while a request is answered from it."""
        self.in_flight_count += 1
        return self.loaded

    def __exit__(self, *_error: object) -> None:
        self.in_flight_count -= 1
        self.used_at = time.monotonic()


@dataclass(frozen=True, kw_only=True)
class ReleaseKeeperSettings:
    """How a service follows the releases directory."""

    releases: Path
    files: frozenset[str]
    """What the service reads of a release: only that is hashed before it is loaded."""
    poll_seconds: float
    retire_seconds: float


class ReleaseKeeper(Generic[Loaded]):
    """Holds releases for a service. All methods are called on the event loop; loading runs in a thread of its own.

    `load` turns a verified release into what the service needs, and raises ValueError to refuse it. `adopt` is asked,
    again and again, whether requests may go to a release that is loaded.
    """

    def __init__(
        self,
        settings: ReleaseKeeperSettings,
        load: Callable[[Release], Loaded],
        metrics: Metrics,
        adopt: Callable[[HeldRelease[Loaded]], Awaitable[bool]] | None = None,
    ) -> None:
        self._settings = settings
        self._load = load
        self._metrics = metrics
        self._adopt = adopt
        self._held: dict[str, HeldRelease[Loaded]] = {}
        self._current: HeldRelease[Loaded] | None = None
        self._loading: str | None = None
        self._refused: dict[str, str] = {}
        self._look_now = asyncio.Event()
        self._loader = ThreadPoolExecutor(max_workers=1, thread_name_prefix="release-loader")

    @property
    def current(self) -> HeldRelease[Loaded]:
        """The release for new requests. Raises UnavailableError while there is none."""
        if self._current is None:
            raise UnavailableError("the release is being loaded")
        return self._current

    def others(self) -> list[HeldRelease[Loaded]]:
        """The releases besides the current one, the newest first."""
        if len(self._held) == 1:
            return []
        return [held for _, held in sorted(self._held.items(), reverse=True) if held is not self._current]

    def held(self, release_id: str) -> HeldRelease[Loaded]:
        """Return the release that a request is pinned to. Raises UnavailableError or ReleaseNotHeldError."""
        held = self._held.get(release_id)
        if held is None:
            raise ReleaseNotHeldError(f"release {release_id[:64]!r} is not held, {self.current.release_id!r} is")
        return held

    def all_held(self) -> list[HeldRelease[Loaded]]:
        """Every release in memory."""
        return list(self._held.values())

    def status(self) -> list[ReleaseStatus]:
        """Every release that is held, being loaded or refused."""
        statuses = [
            ReleaseStatus(release_id=held.release_id, state=self._state(held), in_flight_count=held.in_flight_count)
            for held in self._held.values()
        ]
        if self._loading is not None:
            statuses.append(ReleaseStatus(release_id=self._loading, state=ReleaseState.LOADING))
        statuses += [
            ReleaseStatus(release_id=release_id, state=ReleaseState.REFUSED, reason=reason)
            for release_id, reason in self._refused.items()
        ]
        return sorted(statuses, key=lambda status: status.release_id)

    async def load_current(self) -> None:
        """Load what CURRENT names, at the start of the service. Raises ReleaseError or GoldenMismatchError."""
        held = await self._load_beside(current_release_id(self._settings.releases))
        self._make_current(held)

    async def watch(self) -> None:
        """Follow CURRENT for ever: load what it names, move to it, drop what nobody uses any more."""
        while True:
            with suppress(TimeoutError):
                await asyncio.wait_for(self._look_now.wait(), self._settings.poll_seconds)
            if self._look_now.is_set():
                # Somebody asked: what was refused may have been mended.
                self._look_now.clear()
                self._refused.clear()
            try:
                await self._follow()
            except Exception:
                # Whatever it is, it must not end the watch: the next release may well be good.
                _log.exception("following the current release failed")

    def look_now(self) -> None:
        """Follow CURRENT at once, and try again what was refused."""
        self._look_now.set()

    async def close(self) -> None:
        """End the loading thread. What is held stays usable by requests under way."""
        self._loader.shutdown(wait=False, cancel_futures=True)

    async def _follow(self) -> None:
        try:
            wanted = current_release_id(self._settings.releases)
        except ReleaseError as error:
            _log.warning("no current release", reason=str(error))
            return
        if wanted not in self._held and wanted not in self._refused:
            try:
                await self._load_beside(wanted)
            except (ReleaseError, GoldenMismatchError, ValueError, MemoryError) as error:
                self._refused[wanted] = str(error)
                self._metrics.release_loads.labels("refused").inc()
                _log.error("release refused", release_id=wanted, reason=str(error))
        held = self._held.get(wanted)
        if held is not None and held is not self._current and (self._adopt is None or await self._adopt(held)):
            self._make_current(held)
        self._retire()

    async def _load_beside(self, release_id: str) -> HeldRelease[Loaded]:
        self._loading = release_id
        started = time.monotonic()
        try:
            loaded = await asyncio.get_running_loop().run_in_executor(self._loader, self._verify_and_load, release_id)
        finally:
            self._loading = None
        held = HeldRelease(release_id=release_id, loaded=loaded, used_at=time.monotonic())
        self._held[release_id] = held
        seconds = time.monotonic() - started
        self._metrics.release_loads.labels("loaded").inc()
        self._metrics.release_load_seconds.set(seconds)
        self._metrics.releases_held.set(len(self._held))
        _log.info("release loaded", release_id=release_id, seconds=round(seconds, 3))
        return held

    def _verify_and_load(self, release_id: str) -> Loaded:
        if self._current is not None:
            _give_way_to_serving()
        path = self._settings.releases / release_id
        check_memory(path, self._settings.files)
        release = open_release(path, self._settings.files)
        loaded = self._load(release)
        self._metrics.index_recall.labels(release_id).set(release.manifest.index.recall_at_200)
        return loaded

    def _make_current(self, held: HeldRelease[Loaded]) -> None:
        if self._current is not None:
            self._metrics.release_in_use.remove(self._current.release_id)
            self._current.used_at = time.monotonic()
            _log.info("release in use", release_id=held.release_id, before=self._current.release_id)
        self._current = held
        self._metrics.release_in_use.labels(held.release_id).set(1)

    def _retire(self) -> None:
        now = time.monotonic()
        for held in list(self._held.values()):
            unused = held.in_flight_count == 0 and now - held.used_at > self._settings.retire_seconds
            if unused and self._state(held) is ReleaseState.RETIRING:
                del self._held[held.release_id]
                self._metrics.index_recall.remove(held.release_id)
                self._metrics.releases_held.set(len(self._held))
                _log.info("release dropped", release_id=held.release_id)

    def _state(self, held: HeldRelease[Loaded]) -> ReleaseState:
        if held is self._current:
            return ReleaseState.CURRENT
        if self._current is not None and held.release_id == self._wanted():
            return ReleaseState.WAITING
        return ReleaseState.RETIRING

    def _wanted(self) -> str | None:
        try:
            return current_release_id(self._settings.releases)
        except ReleaseError:
            return None


def check_memory(path: Path, files: Set[str]) -> None:
    """Raise ReleaseError where these files of the release would not fit beside what is in memory now."""
    available = available_bytes()
    try:
        file_bytes = sum(file.stat().st_size for file in path.iterdir() if file.name in files)
    except OSError as error:
        raise ReleaseError(f"release {path.name}: cannot be read ({error.strerror})") from error
    if available is not None and file_bytes * MEMORY_PER_FILE_BYTE > available:
        raise ReleaseError(
            f"release {path.name}: needs about {file_bytes * MEMORY_PER_FILE_BYTE / 2**20:.0f} MiB of memory, "
            f"{available / 2**20:.0f} MiB are left"
        )


def _give_way_to_serving() -> None:
    # On Linux priorities belong to threads; elsewhere this lowers nothing, and loading just competes.
    with suppress(OSError, AttributeError):
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), LOADING_NICENESS)
