"""The releases that the gateway holds, each with everything that answers from it."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

import structlog

from gateway.adoption import Adoption
from gateway.channels import StageChannels
from gateway.experiment import GatewayExperiment, UserArm
from gateway.external_sources import PROPOSE_METHOD, ExternalSourceClient
from gateway.pipeline import Pipeline
from gateway.replicas import Replicas
from gateway.selection_rules import SelectionReader
from gateway.served_catalogue import RELEASE_FILES, ServedCatalogue
from gateway.served_release import ServedRelease
from gateway.settings import GatewaySettings
from gateway.shadow import Shadow
from gateway.sources.configured import configured_sources
from gateway.stage_calls import StageCaller, StageFailure
from gateway.stage_clients import CandidateStageClient, RankingStageClient
from winnow.release.experiment import Experiment
from winnow.release.reader import Release
from winnow.serving.metrics import Metrics
from winnow.serving.releases import HeldRelease, ReleaseKeeper
from winnow.users.events import MAX_USER_ID_BYTES

_log = structlog.get_logger(__name__)

Answer = TypeVar("Answer")

# Besides what is in the files: an id as a string of its own, its entry in the vocabulary, its rank by popularity.
BYTES_PER_ITEM = 200
# A stage that can be reached is connected within a few of these.
STAGE_LOOK_SECONDS = 0.02
CANDIDATE_METHOD = "/winnow.v1.CandidateService/RetrieveCandidates"
RANKING_METHOD = "/winnow.v1.RankingService/RankCandidates"


class ServedReleases:
    """Follows CURRENT, moves to a release when both stages hold it, and answers from one release at a time."""

    def __init__(self, settings: GatewaySettings, metrics: Metrics) -> None:
        """Raise ValueError where a TLS file cannot be read."""
        self._settings = settings
        self._metrics = metrics
        self._channels: list[StageChannels] = []
        self._candidate_caller = self._caller("candidate", settings.candidate_target, CANDIDATE_METHOD)
        self._ranking_caller = self._caller("ranking", settings.ranking_target, RANKING_METHOD)
        # What a release of an experiment does wrong is not held against replicas that answer well for the current one.
        self._experiment_callers = (
            StageCaller("candidate", self._candidate_caller.replicas, settings, metrics, blames=False),
            StageCaller("ranking", self._ranking_caller.replicas, settings, metrics, blames=False),
        )
        self._external_sources = [
            ExternalSourceClient(source, self._caller(source.name, source.target, PROPOSE_METHOD), metrics)
            for source in settings.external_sources
        ]
        self._adoption = Adoption()
        self.experiment: GatewayExperiment | None = None
        self.shadow: Shadow | None = None
        self.keeper: ReleaseKeeper[ServedRelease] = ReleaseKeeper(
            settings,
            RELEASE_FILES,
            self._load,
            metrics,
            waits_for=self._waits_for,
            derived_bytes=lambda manifest: BYTES_PER_ITEM * manifest.item_count,
            on_experiment=self._take_experiment,
        )

    @property
    def current(self) -> ServedRelease:
        """The release for new requests. Raises UnavailableError while there is none."""
        return self.keeper.current.loaded

    def arm_of(self, user_id: str) -> UserArm | None:
        """The arm of a request's user; None without an experiment or without a user."""
        # One that is too long is refused later.
        if self.experiment is None or not 0 < len(user_id) <= MAX_USER_ID_BYTES:
            return None
        return self.experiment.arm_of(user_id)

    def is_of_arm(self, release_id: str, arm: UserArm) -> bool:
        """Whether an answer from the release belongs to the arm: the release that is meant may have been missing."""
        return release_id == (self.keeper.current.release_id if arm.release_id is None else arm.release_id)

    def reads_contexts(self, arm: UserArm | None) -> bool:
        """Whether what was shown before matters to the release that is going to answer, as far as is known now.

        The releases that may be held hardly ever differ in this, but for those of an experiment.
        """
        held = None if arm is None or arm.release_id is None else self.keeper.of_arm(arm.release_id)
        return (self.current if held is None else held.loaded).catalogue.ranking_reads_contexts

    async def answer(
        self, respond: Callable[[ServedRelease, bool], Awaitable[Answer]], arm: UserArm | None = None
    ) -> Answer:
        """Answer from the release of the arm; as a whole from another one that is held, where a replica lacks this one.

        Behind a load balancer nobody knows what the replica that will be met holds: it may be the first with a new
        release, or the last without. `respond` gets a release and whether there is another one to try, and may raise
        StageFailure only if there is.
        """
        *first, last = self._in_order(arm)
        for held in first:
            try:
                with held as release:
                    return await respond(release, True)
            except StageFailure as failure:
                if not failure.release_missing:
                    raise
                if arm is not None and held.release_id == arm.release_id:
                    arm.figures.count_fallback("stage")
        with last as release:
            return await respond(release, False)

    def _in_order(self, arm: UserArm | None) -> list[HeldRelease[ServedRelease]]:
        """The releases to try."""
        usual = [self.keeper.current, *self.keeper.others()]
        if arm is None or arm.release_id is None:
            return usual
        own = self.keeper.of_arm(arm.release_id)
        if own is None:
            arm.figures.count_fallback("waiting")
            return usual
        return [own, *(held for held in usual if held is not own)]

    async def start(self) -> None:
        """Load the current release, then wait a while for the stages. Raises ValueError where there is no release."""
        await self.keeper.load_current()
        waiting = {caller.stage: caller for caller in (self._candidate_caller, self._ranking_caller)}
        loop = asyncio.get_running_loop()
        give_up = loop.time() + self._settings.stage_wait_seconds
        while waiting and loop.time() < give_up:
            waiting = {stage: caller for stage, caller in waiting.items() if not caller.replicas.any_ready}
            await asyncio.sleep(STAGE_LOOK_SECONDS if waiting else 0)
        if waiting:
            _log.warning("serving without a stage", stages=sorted(waiting))

    async def watch(self) -> None:
        """Follow new releases, for ever."""
        await asyncio.gather(self.keeper.watch(), self._keep_current_release_in_use())

    async def close(self) -> None:
        """Wait for batches in flight and close the connections."""
        if self.shadow is not None:
            self.shadow.close()
        await self.keeper.close()
        for channels in self._channels:
            await channels.close()

    def _caller(self, stage: str, target: str, method: str) -> StageCaller:
        replicas = Replicas(stage, self._metrics)
        self._channels.append(StageChannels(target, method, replicas, self._settings))
        return StageCaller(stage, replicas, self._settings, self._metrics)

    def _load(self, release: Release) -> ServedRelease:
        catalogue = ServedCatalogue.load(release, self._settings.filter_cache_mebibytes * 2**20)
        SelectionReader(self._settings.default_caps, self._settings.default_diversity).check_defaults(catalogue.schema)
        candidate_stage = CandidateStageClient(self._candidate_caller, catalogue.release_id, len(catalogue.vocabulary))
        ranking_stage = RankingStageClient(self._ranking_caller, catalogue.release_id)
        return ServedRelease(
            manifest=release.manifest,
            catalogue=catalogue,
            candidate_stage=candidate_stage,
            ranking_stage=ranking_stage,
            pipeline=Pipeline(
                catalogue,
                candidate_stage,
                ranking_stage,
                self._settings,
                self._metrics,
                configured_sources(catalogue, self._settings, self._external_sources, self._metrics),
            ),
        )

    def _take_experiment(self, experiment: Experiment | None) -> None:
        if self.shadow is not None:
            self.shadow.close()
        self.experiment = self.shadow = None
        if experiment is None:
            return
        self.experiment = GatewayExperiment(experiment, self._metrics)
        if (arm := experiment.shadow) is not None:
            release_id = arm.release_id
            self.shadow = Shadow(
                experiment.name,
                arm,
                self._metrics,
                lambda: self.keeper.of_arm(release_id),
                lambda: self.current.pipeline.requests_wait,
            )

    async def _waits_for(self, held: HeldRelease[ServedRelease]) -> str:
        release = held.loaded
        experimental = self.keeper.is_experimental(held.release_id)
        candidate, ranking = (
            self._experiment_callers if experimental else (self._candidate_caller, self._ranking_caller)
        )
        release.candidate_stage.caller = candidate
        release.ranking_stage.caller = ranking
        empty_requests = {
            self._candidate_caller: release.candidate_stage.empty_request(),
            self._ranking_caller: release.ranking_stage.empty_request(),
        }
        return await self._adoption.waits_for(held.release_id, empty_requests, in_use=not held.waits_for)

    async def _keep_current_release_in_use(self) -> None:
        """Stages drop what nobody uses: in a quiet hour that would be the release that this gateway pins."""
        while True:
            await asyncio.sleep(self._settings.release_poll_seconds)
            release = self.current
            await asyncio.gather(
                self._candidate_caller.say_in_use(release.candidate_stage.empty_request()),
                self._ranking_caller.say_in_use(release.ranking_stage.empty_request()),
            )
