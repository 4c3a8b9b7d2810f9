"""A release as the gateway holds it."""

from dataclasses import dataclass

from gateway.pipeline import Pipeline
from gateway.served_catalogue import ServedCatalogue
from gateway.stage_clients import CandidateStageClient, RankingStageClient
from winnow.release.manifest import Manifest


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
