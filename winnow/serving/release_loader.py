"""Verifies, loads and checks releases, in a thread of its own, while others are served.

A release that fails is refused with a reason, and tried again when one of its files has changed. No file is touched on
the event loop: a file system may hang.
"""

import asyncio
import gc
import time
from collections.abc import Callable, Mapping, Set
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, Protocol, TypeVar

import structlog

from winnow.release.manifest import Manifest
from winnow.release.reader import IncompleteReleaseError, Release, ReleaseError, open_release, read_manifest
from winnow.serving.memory import available_bytes
from winnow.serving.metrics import Metrics
from winnow.serving.priority import give_way_to_serving
from winnow.serving.release_status import ReleaseState, ReleaseStatus

_log = structlog.get_logger(__name__)

# Files are copied into memory; while a table is checked for values that are not finite, it takes nearly as much again.
MEMORY_PER_FILE_BYTE = 2
# A release whose files are missing is being copied, unless nothing has come for this long.
INCOMPLETE_SECONDS = 60.0


class Closable(Protocol):
    """What a service has loaded of a release."""

    async def close(self) -> None:
        """Wait for work in flight; none arrives any more."""


Loaded = TypeVar("Loaded", bound=Closable)


@dataclass(frozen=True, kw_only=True)
class _Failure:
    """Why a release could not be loaded, and the state that its files had."""

    state: ReleaseState
    reason: str
    files: Set[object]
    failed_at: float
    """Monotonic time."""


class ReleaseLoader(Generic[Loaded]):
    """Loads releases, one at a time. All methods are called on the event loop.

    What is loaded is hidden from the garbage collector. Therefore closing it must end its reference cycles: nothing
    else would free them.
    """

    def __init__(
        self,
        releases: Path,
        files: frozenset[str],
        load: Callable[[Release], Loaded],
        metrics: Metrics,
        on_loaded: Callable[[str, Loaded], None],
        *,
        serves: Callable[[], bool],
        derived_bytes: Callable[[Manifest], int],
        left_out: Mapping[str, str],
    ) -> None:
        """Give `on_loaded` the id of a release, and what `load` makes of `files`, the only ones of it that it reads.

        Any exception from `load` refuses the release; the text of a ValueError becomes the reason. Loading gives way
        to requests if the service `serves` already. `derived_bytes` says how much memory loading takes besides what is
        in the files, which is less than nothing where a tensor of a file is `left_out`: see open_release.
        """
        self._releases = releases
        self._files = files
        self._load = load
        self._metrics = metrics
        self._on_loaded = on_loaded
        self._serves = serves
        self._derived_bytes = derived_bytes
        self._left_out = left_out
        self._loading: set[str] = set()
        self._loads: dict[str, asyncio.Task[None]] = {}
        self._failures: dict[str, _Failure] = {}
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="release-loader")

    def status(self) -> list[ReleaseStatus]:
        """Every release that is being loaded or refused."""
        failed = [
            ReleaseStatus(release_id=release_id, state=failure.state, reason=failure.reason)
            for release_id, failure in self._failures.items()
            if release_id not in self._loading
        ]
        return failed + [ReleaseStatus(release_id=id_, state=ReleaseState.LOADING) for id_ in self._loading]

    def reason(self, release_id: str) -> str:
        """Why a release is not loaded."""
        failure = self._failures.get(release_id)
        return "it is being loaded" if failure is None or release_id in self._loading else failure.reason

    def forget_failures(self, release_ids: Set[str | None] | None = None) -> None:
        """Try these releases again when they are next asked for, or all that have failed."""
        for release_id in list(self._failures):
            if release_ids is None or release_id in release_ids:
                del self._failures[release_id]

    async def load(self, release_id: str) -> None:
        """Load a release. Raises ReleaseError or another ValueError, with a text for operators."""
        self._loading.add(release_id)
        started = time.monotonic()
        try:
            loaded = await asyncio.get_running_loop().run_in_executor(self._thread, self._verify_and_load, release_id)
        finally:
            self._loading.discard(release_id)
        self._failures.pop(release_id, None)
        self._on_loaded(release_id, loaded)
        seconds = time.monotonic() - started
        self._metrics.release_loads.labels("loaded").inc()
        self._metrics.release_load_seconds.set(seconds)
        _log.info("release loaded", release_id=release_id, seconds=round(seconds, 3))

    def load_in_background(self, release_id: str, files: Set[object]) -> "asyncio.Task[None]":
        """Begin to load a release, unless it is being loaded, or has failed and none of its `files` has changed since.

        What goes wrong is logged, and refuses the release.
        """
        load = self._loads.get(release_id)
        if load is None:
            load = asyncio.get_running_loop().create_task(self._try_to_load(release_id, files))
            self._loads[release_id] = load
            load.add_done_callback(lambda task: self._load_ended(release_id, task))
        return load

    def close(self) -> None:
        """Stop, without waiting for a release that is being loaded."""
        self._thread.shutdown(wait=False, cancel_futures=True)
        for load in self._loads.values():
            load.cancel()

    def _load_ended(self, release_id: str, task: "asyncio.Task[None]") -> None:
        del self._loads[release_id]
        if not task.cancelled() and (error := task.exception()) is not None:
            _log.error("loading failed", release_id=release_id, exc_info=error)

    async def _try_to_load(self, release_id: str, files: Set[object]) -> None:
        before = self._failures.get(release_id)
        now = time.monotonic()
        if before is None or before.files != files:
            try:
                await self.load(release_id)
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

    def _verify_and_load(self, release_id: str) -> Loaded:
        """Raises ValueError, with a text for operators, whatever goes wrong."""
        if self._serves():
            give_way_to_serving()
        try:
            path = self._releases / release_id
            self._check_memory(read_manifest(path))
            release = open_release(path, self._files, self._left_out)
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


def _hide_from_garbage_collector() -> None:
    """Keep everything there is now, modules above all, out of later collections.

    It stays for long, and each collection that walks over it stops all calls for tens of milliseconds.
    """
    gc.collect()
    gc.freeze()
