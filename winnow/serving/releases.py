"""Which releases a service holds: the one that CURRENT names, those of an experiment, and earlier ones while in use.

A new release is loaded while the current one is served. New requests go to it only after that has succeeded and it
waits for nothing else. The directory of the releases is looked at in a thread: a file system may hang.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from typing import Generic

import structlog

from winnow.release.experiment import Experiment
from winnow.release.manifest import Manifest
from winnow.release.reader import NOTHING_LEFT_OUT, Release, ReleaseError
from winnow.rpc.errors import ReleaseNotHeldError, UnavailableError
from winnow.serving.metrics import Metrics
from winnow.serving.named_releases import NamedReleases, look
from winnow.serving.release_loader import Loaded, ReleaseLoader
from winnow.serving.release_status import ArmStatus, ExperimentStatus, ReleaseState, ReleaseStatus
from winnow.serving.settings import ServerSettings

_log = structlog.get_logger(__name__)

# Looking at CURRENT takes a moment. After this long an operator should know that the file system does not answer.
SLOW_LOOK_SECONDS = 10.0


@dataclass(kw_only=True, eq=False)
class HeldRelease(Generic[Loaded]):
    """A release in memory, and who uses it."""

    release_id: str
    loaded: Loaded
    in_flight_count: int = 0
    used_at: float = 0.0
    """Monotonic time of the latest use's end."""
    waits_for: str = "it has just been loaded"
    """What has to happen before new requests may go to it; empty where they may."""

    def __enter__(self) -> Loaded:
        """Keep the release from being dropped while a request is answered from it."""
        self.in_flight_count += 1
        return self.loaded

    def __exit__(self, *_error: object) -> None:
        self.in_flight_count -= 1
        self.used_at = time.monotonic()


class ReleaseKeeper(Generic[Loaded]):
    """Holds releases for a service. All methods are called on the event loop."""

    def __init__(
        self,
        settings: ServerSettings,
        files: frozenset[str],
        load: Callable[[Release], Loaded],
        metrics: Metrics,
        *,
        waits_for: Callable[[HeldRelease[Loaded]], Awaitable[str]] | None = None,
        derived_bytes: Callable[[Manifest], int] = lambda _manifest: 0,
        left_out: Mapping[str, str] = NOTHING_LEFT_OUT,
        on_experiment: Callable[[Experiment | None], None] = lambda _experiment: None,
    ) -> None:
        """Hold what `load` makes of `files`: see ReleaseLoader, also for `derived_bytes` and `left_out`.

        `waits_for` is asked, again and again, what has to happen before requests may go to a release that is loaded:
        nothing, where it returns an empty text. `on_experiment` is told of an experiment that begins, and of None when
        there is none any more.
        """
        self._settings = settings
        self._metrics = metrics
        self._waits_for = waits_for
        self._on_experiment = on_experiment
        self._loader = ReleaseLoader(
            settings.releases,
            files,
            load,
            metrics,
            self._hold,
            serves=lambda: self._current is not None,
            derived_bytes=derived_bytes,
            left_out=left_out,
        )
        self._held: dict[str, HeldRelease[Loaded]] = {}
        self._current: HeldRelease[Loaded] | None = None
        self._wanted: str | None = None
        self._no_current = ""
        self._experiment: Experiment | None = None
        self._experiment_error = ""
        self._look_now = asyncio.Event()
        self._looker = ThreadPoolExecutor(max_workers=1, thread_name_prefix="release-looker")

    @property
    def current(self) -> HeldRelease[Loaded]:
        """The release for new requests. Raises UnavailableError while there is none."""
        if self._current is None:
            raise UnavailableError("the release is being loaded")
        return self._current

    def others(self) -> list[HeldRelease[Loaded]]:
        """The releases besides the current one and those of an experiment, the newest first."""
        if len(self._held) == 1:
            return []
        return [
            held
            for _, held in sorted(self._held.items(), reverse=True)
            if held is not self._current and not self.is_experimental(held.release_id)
        ]

    def of_arm(self, release_id: str) -> HeldRelease[Loaded] | None:
        """The release of an arm of the experiment; None where requests may not go to it."""
        held = self._held.get(release_id)
        return None if held is None or held.waits_for else held

    def is_experimental(self, release_id: str) -> bool:
        """Whether the release is held for an experiment only."""
        current = self._current is not None and release_id == self._current.release_id
        named = self._experiment is not None and release_id in self._experiment.release_ids
        return named and not current and release_id != self._wanted

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
        statuses += self._loader.status()
        return sorted(statuses, key=lambda status: status.release_id)

    def experiment_status(self) -> ExperimentStatus | None:
        """The experiment, and what is wrong with its file; None where there is neither."""
        if self._experiment is None:
            return ExperimentStatus(file_error=self._experiment_error) if self._experiment_error else None
        return ExperimentStatus(
            name=self._experiment.name,
            arms=tuple(
                ArmStatus(
                    name=arm.name,
                    release_id=arm.release_id,
                    share=arm.share,
                    shadow=arm.shadow,
                    waits_for=(
                        self._held[arm.release_id].waits_for
                        if arm.release_id in self._held
                        else self._loader.reason(arm.release_id)
                    ),
                )
                for arm in self._experiment.arms
            ),
            file_error=self._experiment_error,
        )

    async def load_current(self) -> None:
        """Load what CURRENT names, at the start of the service. Raises ReleaseError or another ValueError.

        The releases of an experiment come later: the service does not wait for them.
        """
        found = await self._look()
        await self._loader.load(found.current)
        self._make_current(self._held[found.current])
        self._take_experiment(found)
        await self._follow_experiment(found)

    async def watch(self) -> None:
        """Follow CURRENT for ever: load what it names, move to it, drop what is no longer used."""
        while True:
            with suppress(TimeoutError):
                await asyncio.wait_for(self._look_now.wait(), self._settings.release_poll_seconds)
            if self._look_now.is_set():
                # An operator asks for it: what was refused may do now.
                self._look_now.clear()
                self._loader.forget_failures()
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
        self._looker.shutdown(wait=False, cancel_futures=True)
        self._loader.close()
        for held in self._held.values():
            await held.loaded.close()

    async def _follow(self) -> None:
        try:
            found = await self._look()
            self._no_current = ""
        except ReleaseError as error:
            if str(error) != self._no_current:
                _log.warning("no current release", reason=str(error))
            self._no_current = str(error)
            return
        wanted = found.current
        if wanted != self._wanted:
            # What was refused is tried again after CURRENT has named another release.
            self._loader.forget_failures({wanted})
            self._wanted = wanted
        self._take_experiment(found)
        if wanted not in self._held:
            await asyncio.wait({self._loader.load_in_background(wanted, found.files[wanted])})
        held = self._held.get(wanted)
        if held is not None and held is not self._current:
            held.waits_for = "" if self._waits_for is None else await self._waits_for(held)
            if not held.waits_for:
                self._make_current(held)
        await self._follow_experiment(found)
        await self._retire()

    def _take_experiment(self, found: NamedReleases) -> None:
        """Take part in what EXPERIMENT says. Where it cannot be used, the experiment before it goes on."""
        if found.experiment_error:
            if found.experiment_error != self._experiment_error:
                _log.error("the experiment's file cannot be used", reason=found.experiment_error)
            self._experiment_error = found.experiment_error
            self._metrics.experiment_file_invalid.set(1)
            return
        if self._experiment_error:
            self._experiment_error = ""
            self._metrics.experiment_file_invalid.set(0)
        if found.experiment == self._experiment:
            return
        for release_id in frozenset() if self._experiment is None else self._experiment.release_ids:
            if release_id in self._held:  # others may pin it a moment longer
                self._held[release_id].used_at = time.monotonic()
        self._experiment = found.experiment
        if found.experiment is None:
            _log.info("the experiment has ended")
        else:
            self._loader.forget_failures(found.experiment.release_ids - {self._wanted})
            arms = [f"{arm.name}: {arm.release_id}" for arm in found.experiment.arms]
            _log.info("an experiment has started", name=found.experiment.name, arms=arms)
        self._on_experiment(found.experiment)

    async def _follow_experiment(self, found: NamedReleases) -> None:
        """Load the releases of the experiment, beside everything else, and ask what those that are held wait for."""
        if self._experiment is None:
            return
        experimental = [id_ for id_ in sorted(self._experiment.release_ids) if self.is_experimental(id_)]
        for release_id in experimental:
            if release_id not in self._held and release_id in found.files:
                self._loader.load_in_background(release_id, found.files[release_id])
        held = [self._held[release_id] for release_id in experimental if release_id in self._held]
        if self._waits_for is None:
            reasons = [""] * len(held)
        else:
            reasons = await asyncio.gather(*map(self._waits_for, held))
        for release, reason in zip(held, reasons, strict=True):
            if reason and release.waits_for != reason:
                _log.warning("release of an experiment not in use", release_id=release.release_id, reason=reason)
            elif release.waits_for and not reason:
                _log.info("release of an experiment in use", release_id=release.release_id)
            release.waits_for = reason

    async def _look(self) -> NamedReleases:
        """Return what CURRENT and EXPERIMENT name, and the state of the files. Raises ReleaseError."""
        releases = self._settings.releases
        looking = asyncio.get_running_loop().run_in_executor(self._looker, look, releases, self._experiment)
        await asyncio.wait({looking}, timeout=SLOW_LOOK_SECONDS)
        if not looking.done():
            _log.warning("the file system of the releases does not answer", releases=str(releases))
        return await looking

    def _hold(self, release_id: str, loaded: Loaded) -> None:
        self._held[release_id] = HeldRelease(release_id=release_id, loaded=loaded, used_at=time.monotonic())
        self._metrics.releases_held.set(len(self._held))

    def _make_current(self, held: HeldRelease[Loaded]) -> None:
        if self._current is not None:
            self._metrics.release_in_use.remove(self._current.release_id)
            self._current.used_at = time.monotonic()
            _log.info("release in use", release_id=held.release_id, before=self._current.release_id)
        self._current = held
        held.waits_for = ""
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
        if held.release_id == self._wanted:
            return ReleaseState.WAITING
        if self.is_experimental(held.release_id):
            return ReleaseState.WAITING if held.waits_for else ReleaseState.EXPERIMENT
        return ReleaseState.RETIRING
