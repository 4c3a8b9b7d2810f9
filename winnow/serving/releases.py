"""Which releases a service holds: the one that CURRENT names, and earlier ones while they are in use.

A new release is verified, loaded and checked in a thread of its own while the current one is served. New requests go to
it only after all of that has succeeded and it waits for nothing else. A release that fails is refused with a reason,
and the current one stays; it is tried again when one of its files has changed. No file is touched on the event loop: a
file system may hang.
"""

import asyncio
import gc
import time
from collections.abc import Awaitable, Callable, Set
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from enum import Enum
from typing import Generic, Protocol, TypeVar

import structlog

from winnow.release.manifest import Manifest
from winnow.release.reader import (
    IncompleteReleaseError,
    Release,
    ReleaseError,
    current_release_id,
    open_release,
    read_manifest,
    state_of_files,
)
from winnow.rpc.errors import ReleaseNotHeldError, UnavailableError
from winnow.serving.memory import available_bytes
from winnow.serving.metrics import Metrics
from winnow.serving.priority import give_way_to_serving
from winnow.serving.settings import ServerSettings

_log = structlog.get_logger(__name__)

# Files are copied into memory; while a table is checked for values that are not finite, it takes nearly as much again.
MEMORY_PER_FILE_BYTE = 2
# A release whose files are missing is being copied, unless nothing has come for this long.
INCOMPLETE_SECONDS = 60.0
# Looking at CURRENT takes a moment. After this long an operator should know that the file system does not answer.
SLOW_LOOK_SECONDS = 10.0


class Closable(Protocol):
    """What a service has loaded of a release."""

    async def close(self) -> None:
        """Wait for work in flight; none arrives any more."""


Loaded = TypeVar("Loaded", bound=Closable)


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
    waits_for: str = ""
    """What has to happen before new requests may go to it."""

    def __enter__(self) -> Loaded:
        """Keep the release from being dropped while a request is answered from it."""
        self.in_flight_count += 1
        return self.loaded

    def __exit__(self, *_error: object) -> None:
        self.in_flight_count -= 1
        self.used_at = time.monotonic()


@dataclass(frozen=True, kw_only=True)
class _Failure:
    """Why a release is not held, and the state that its files had."""

    state: ReleaseState
    reason: str
    files: Set[object]
    failed_at: float
    """Monotonic time."""


class ReleaseKeeper(Generic[Loaded]):
    """Holds releases for a service. All methods are called on the event loop; loading runs in a thread of its own.

    What is loaded is hidden from the garbage collector. Therefore closing it must end its reference cycles: nothing
    else would free them.
    """

    def __init__(
        self,
        settings: ServerSettings,
        files: frozenset[str],
        load: Callable[[Release], Loaded],
        metrics: Metrics,
        *,
        waits_for: Callable[[HeldRelease[Loaded]], Awaitable[str]] | None = None,
        derived_bytes: Callable[[Manifest], int] = lambda _manifest: 0,
    ) -> None:
        """Hold what `load` makes of `files`, the only ones of a release that it reads.

        Any exception from `load` refuses the release; the text of a ValueError becomes the reason. `waits_for` is
        asked, again and again, what has to happen before requests may go to a release that is loaded: nothing, where
        it returns an empty text. `derived_bytes` says how much memory loading takes besides what is in the files.
        """
        self._settings = settings
        self._files = files
        self._load = load
        self._metrics = metrics
        self._waits_for = waits_for
        self._derived_bytes = derived_bytes
        self._held: dict[str, HeldRelease[Loaded]] = {}
        self._current: HeldRelease[Loaded] | None = None
        self._loading: str | None = None
        self._wanted: str | None = None
        self._failures: dict[str, _Failure] = {}
        self._no_current = ""
        self._look_now = asyncio.Event()
        self._looker = ThreadPoolExecutor(max_workers=1, thread_name_prefix="release-looker")
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

    def status(self) -> list[ReleaseStatus]:
        """Every release that is held, being loaded or refused."""
        statuses = [
            ReleaseStatus(
                release_id=held.release_id,
                state=(state := self._state(held)),
                reason=held.waits_for if state is ReleaseState.WAITING else "",
                in_flight_count=held.in_flight_count,
            )
            for held in self._held.values()
        ]
        statuses += [
            ReleaseStatus(release_id=release_id, state=failure.state, reason=failure.reason)
            for release_id, failure in self._failures.items()
            if release_id != self._loading
        ]
        if self._loading is not None:
            statuses.append(ReleaseStatus(release_id=self._loading, state=ReleaseState.LOADING))
        return sorted(statuses, key=lambda status: status.release_id)

    async def load_current(self) -> None:
        """Load what CURRENT names, at the start of the service. Raises ReleaseError or another ValueError."""
        release_id, _ = await self._look()
        self._make_current(await self._load_beside(release_id))

    async def watch(self) -> None:
        """Follow CURRENT for ever: load what it names, move to it, drop what is no longer used."""
        while True:
            with suppress(TimeoutError):
                await asyncio.wait_for(self._look_now.wait(), self._settings.release_poll_seconds)
            if self._look_now.is_set():
                # An operator asks for it: what was refused may do now.
                self._look_now.clear()
                self._failures.clear()
            try:
                await self._follow()
            except Exception:
                # Whatever it is must not end the watch: the next release may well be good.
                _log.exception("following the current release failed")

    def look_now(self) -> None:
        """Follow CURRENT at once, and try again what was refused."""
        self._look_now.set()

    async def close(self) -> None:
        """Close every release that is held, without waiting for one that is being loaded, or for a file system."""
        for threads in (self._looker, self._loader):
            threads.shutdown(wait=False, cancel_futures=True)
        for held in self._held.values():
            await held.loaded.close()

    async def _follow(self) -> None:
        try:
            wanted, files = await self._look()
            self._no_current = ""
        except ReleaseError as error:
            if str(error) != self._no_current:
                _log.warning("no current release", reason=str(error))
            self._no_current = str(error)
            return
        if wanted != self._wanted:
            # What was refused is tried again after CURRENT has named another release.
            self._failures.pop(wanted, None)
            self._wanted = wanted
        if wanted not in self._held:
            await self._try_to_load(wanted, files)
        held = self._held.get(wanted)
        if held is not None and held is not self._current:
            held.waits_for = "" if self._waits_for is None else await self._waits_for(held)
            if not held.waits_for:
                self._make_current(held)
        await self._retire()

    async def _look(self) -> tuple[str, Set[object]]:
        """Return which release CURRENT names, and the state of its files. Raises ReleaseError."""

        def look() -> tuple[str, Set[object]]:
            release_id = current_release_id(self._settings.releases)
            return release_id, state_of_files(self._settings.releases / release_id)

        looking = asyncio.get_running_loop().run_in_executor(self._looker, look)
        await asyncio.wait({looking}, timeout=SLOW_LOOK_SECONDS)
        if not looking.done():
            _log.warning("the file system of the releases does not answer", releases=str(self._settings.releases))
        return await looking

    async def _try_to_load(self, release_id: str, files: Set[object]) -> None:
        """Load a release, unless it has failed and none of its files has changed since then."""
        before = self._failures.get(release_id)
        now = time.monotonic()
        if before is None or before.files != files:
            try:
                await self._load_beside(release_id)
                return
            except IncompleteReleaseError as error:
                state, reason, failed_at = ReleaseState.LOADING, str(error), now
            except ValueError as error:
                state, reason, failed_at = ReleaseState.REFUSED, str(error), now
        elif before.state is ReleaseState.LOADING and now - before.failed_at > INCOMPLETE_SECONDS:
            state, reason, failed_at = ReleaseState.REFUSED, before.reason, before.failed_at
        else:
            return
        self._failures[release_id] = _Failure(state=state, reason=reason, files=files, failed_at=failed_at)
        if state is ReleaseState.REFUSED:
            self._metrics.release_loads.labels("refused").inc()
            _log.error("release refused", release_id=release_id, reason=reason)
        elif before is None:
            _log.warning("release is not complete yet", release_id=release_id, reason=reason)

    async def _load_beside(self, release_id: str) -> HeldRelease[Loaded]:
        self._loading = release_id
        started = time.monotonic()
        try:
            loaded = await asyncio.get_running_loop().run_in_executor(self._loader, self._verify_and_load, release_id)
        finally:
            self._loading = None
        held = HeldRelease(release_id=release_id, loaded=loaded, used_at=time.monotonic())
        self._held[release_id] = held
        self._failures.pop(release_id, None)
        seconds = time.monotonic() - started
        self._metrics.release_loads.labels("loaded").inc()
        self._metrics.release_load_seconds.set(seconds)
        self._metrics.releases_held.set(len(self._held))
        _log.info("release loaded", release_id=release_id, seconds=round(seconds, 3))
        return held

    def _verify_and_load(self, release_id: str) -> Loaded:
        """Raises ValueError, with a text for operators, whatever goes wrong."""
        if self._current is not None:
            give_way_to_serving()
        try:
            path = self._settings.releases / release_id
            self._check_memory(read_manifest(path))
            release = open_release(path, self._files)
            loaded = self._load(release)
        except ValueError:
            raise
        except Exception as error:
            _log.exception("loading failed", release_id=release_id)
            raise ReleaseError(f"release {release_id}: {type(error).__name__} while loading, see the log") from error
        self._metrics.index_recall.labels(release_id).set(release.manifest.index.recall_at_200)
        created_at = release.manifest.created_at.timestamp()
        self._metrics.release_created_timestamp_seconds.labels(release_id).set(created_at)
        _hide_from_garbage_collector()
        return loaded

    def _check_memory(self, manifest: Manifest) -> None:
        """Raise ReleaseError where the release does not fit beside what is in memory now."""
        file_bytes = sum(entry.size_bytes for name, entry in manifest.files.items() if name in self._files)
        needed = MEMORY_PER_FILE_BYTE * file_bytes + self._derived_bytes(manifest)
        available = available_bytes()
        if available is not None and needed > available:
            raise ReleaseError(
                f"release {manifest.release_id}: needs about {needed / 2**20:.0f} MiB of memory, "
                f"{available / 2**20:.0f} MiB are left"
            )

    def _make_current(self, held: HeldRelease[Loaded]) -> None:
        if self._current is not None:
            self._metrics.release_in_use.remove(self._current.release_id)
            self._current.used_at = time.monotonic()
            _log.info("release in use", release_id=held.release_id, before=self._current.release_id)
        self._current = held
        self._metrics.release_in_use.labels(held.release_id).set(1)

    async def _retire(self) -> None:
        now = time.monotonic()
        for held in list(self._held.values()):
            unused = held.in_flight_count == 0 and now - held.used_at > self._settings.release_retire_seconds
            if unused and self._state(held) is ReleaseState.RETIRING:
                del self._held[held.release_id]
                await held.loaded.close()
                self._metrics.index_recall.remove(held.release_id)
                self._metrics.release_created_timestamp_seconds.remove(held.release_id)
                self._metrics.releases_held.set(len(self._held))
                _log.info("release dropped", release_id=held.release_id)

    def _state(self, held: HeldRelease[Loaded]) -> ReleaseState:
        if held is self._current:
            return ReleaseState.CURRENT
        return ReleaseState.WAITING if held.release_id == self._wanted else ReleaseState.RETIRING


def _hide_from_garbage_collector() -> None:
    """Keep everything there is now, modules above all, out of later collections.

    It stays for long, and each collection that walks over it stops all calls for tens of milliseconds.
    """
    gc.collect()
    gc.freeze()
