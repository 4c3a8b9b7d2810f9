"""The releases that the gateway holds, each with everything that answers from it."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TypeVar

import structlog

from gateway.adoption import Adoption
from gateway.channels import StageChannels
from gateway.external_sources import PROPOSE_METHOD, ExternalSourceClient
from gateway.pipeline import Pipeline
from gateway.replicas import Replicas
from gateway.selection_rules import SelectionReader
from gateway.served_catalogue import RELEASE_FILES, ServedCatalogue
from gateway.settings import GatewaySettings
from gateway.sources.configured import configured_sources
from gateway.stage_calls import StageCaller, StageFailure
from gateway.stage_clients import CandidateStageClient, RankingStageClient
from winnow.release.manifest import Manifest
from winnow.release.reader import Release
from winnow.serving.metrics import Metrics
from winnow.serving.releases import HeldRelease, ReleaseKeeper

_log = structlog.get_logger(__name__)

Answer = TypeVar("Answer")

# Besides what is in the files: an id as a string of its own, its entry in the vocabulary, its rank by popularity.
BYTES_PER_ITEM = 200
# A stage that can be reached is connected within a few of these.
STAGE_LOOK_SECONDS = 0.02
CANDIDATE_METHOD = "/winnow.v1.CandidateService/RetrieveCandidates"
RANKING_METHOD = "/winnow.v1.RankingService/RankCandidates"


@dataclass(frozen=True, kw_only=True, eq=False)
class ServedRelease:
    """A release with everything that answers from it."""

    manifest: Manifest
    catalogue: ServedCatalogue
    candidate_stage: CandidateStageClient
    ranking_stage: RankingStageClient
    pipeline: Pipeline

    async def close(self) -> None:
        """Wait for batches in flight."""
        await self.pipeline.close()


class ServedReleases:
    """Follows CURRENT, moves to a release when both stages hold it, and answers from one release at a time."""

    def __init__(self, settings: GatewaySettings, metrics: Metrics) -> None:
        """Raise ValueError where a TLS file cannot be read."""
        self._settings = settings
        self._metrics = metrics
        self._channels: list[StageChannels] = []
        self._candidate_caller = self._caller("candidate", settings.candidate_target, CANDIDATE_METHOD)
        self._ranking_caller = self._caller("ranking", settings.ranking_target, RANKING_METHOD)
        self._external_sources = [
            ExternalSourceClient(source, self._caller(source.name, source.target, PROPOSE_METHOD), metrics)
            for source in settings.external_sources
        ]
        self._adoption = Adoption()
        self.keeper: ReleaseKeeper[ServedRelease] = ReleaseKeeper(
            settings,
            RELEASE_FILES,
            self._load,
            metrics,
            waits_for=self._waits_for,
            derived_bytes=lambda manifest: BYTES_PER_ITEM * manifest.item_count,
        )

    @property
    def current(self) -> ServedRelease:
        """The release for new requests. Raises UnavailableError while there is none."""
        return self.keeper.current.loaded

    async def answer(self, respond: Callable[[ServedRelease, bool], Awaitable[Answer]]) -> Answer:
        """Answer from the current release; as a whole from another one that is held, where a replica lacks this one.

        Behind a load balancer nobody knows what the replica that will be met holds: it may be the first with a new
        release, or the last without. `respond` gets a release and whether there is another one to try, and may raise
        StageFailure only if there is.
        """
        *first, last = [self.keeper.current, *self.keeper.others()]
        for held in first:
            try:
                with held as release:
                    return await respond(release, True)
            except StageFailure as failure:
                if not failure.release_missing:
                    raise
        with last as release:
            return await respond(release, False)

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

    async def _waits_for(self, held: HeldRelease[ServedRelease]) -> str:
        release = held.loaded
        empty_requests = {
            self._candidate_caller: release.candidate_stage.empty_request(),
            self._ranking_caller: release.ranking_stage.empty_request(),
        }
        return await self._adoption.waits_for(held.release_id, empty_requests)

    async def _keep_current_release_in_use(self) -> None:
        """Stages drop what nobody uses: in a quiet hour that would be the release that this gateway pins."""
        while True:
            await asyncio.sleep(self._settings.release_poll_seconds)
            release = self.current
            await asyncio.gather(
                self._candidate_caller.say_in_use(release.candidate_stage.empty_request()),
                self._ranking_caller.say_in_use(release.ranking_stage.empty_request()),
            )
