"""Stages in this process whose answers a test can foresee: candidates are the smallest rows, large rows score best."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

import grpc
import numpy as np

from gateway.filters import PermittedRows
from gateway.pipeline import Pipeline
from gateway.replicas import Replica, Replicas
from gateway.requests import NO_RESTRICTION, CandidateRequest, OwnCandidates, RankRequest
from gateway.selection_rules import SelectionRules
from gateway.served_catalogue import ServedCatalogue
from gateway.settings import GatewaySettings
from gateway.sources.proposed import Source, numbered
from gateway.stage_calls import StageCaller
from gateway.stage_clients import CandidateStageClient, RankingStageClient
from winnow.history import RaggedRows, Rows, WatchHistories
from winnow.queries import Candidates, Restriction
from winnow.serving import wire
from winnow.serving.metrics import Metrics
from winnow.v1 import candidate_pb2, ranking_pb2, source_pb2

Change = Callable[[Any], None]
Outcome = grpc.aio.AioRpcError | float | Change | None


def rows(*values: int) -> Rows:
    return np.array(values, dtype=np.int32)


def status(code: grpc.StatusCode) -> grpc.aio.AioRpcError:
    return grpc.aio.AioRpcError(code, grpc.aio.Metadata(), grpc.aio.Metadata())


@dataclass
class FakeStage:
    """`outcomes` come first, one a call: an exception, a number of seconds to wait, or a change of the answer."""

    item_count: int = 300
    outcomes: list[Outcome] = field(default_factory=list)
    requests: list[Any] = field(default_factory=list)
    cancelled_count: int = 0

    def ask(self, data: bytes, *, timeout: float, metadata: Any = ()) -> "asyncio.Task[bytes]":
        """What a replica's channel does: the call is under way before anyone waits for it."""
        return asyncio.get_running_loop().create_task(self._respond(data, timeout))

    async def _respond(self, data: bytes, timeout: float) -> bytes:  # noqa: ASYNC109 - as a stub
        request = self.parse(data)
        self.requests.append(request)
        outcome = self.outcomes.pop(0) if self.outcomes else None
        if isinstance(outcome, grpc.aio.AioRpcError):
            raise outcome
        if isinstance(outcome, float):
            try:
                await asyncio.sleep(min(outcome, timeout))
            except asyncio.CancelledError:
                self.cancelled_count += 1
                raise
            if outcome > timeout:
                raise status(grpc.StatusCode.DEADLINE_EXCEEDED)
        answer = self.answer(request)
        if callable(outcome):
            outcome(answer)
        return cast(bytes, answer.SerializeToString())

    def parse(self, data: bytes) -> Any:
        raise AssertionError("a stage has its own messages")

    def answer(self, request: Any) -> Any:
        raise AssertionError("a stage answers in its own way")


class FakeCandidateStage(FakeStage):
    """Returns the smallest rows that are allowed and not excluded; the logit of a row is minus the row."""

    heeds_allowed: bool = True

    def parse(self, data: bytes) -> candidate_pb2.RetrieveCandidatesRequest:
        return candidate_pb2.RetrieveCandidatesRequest.FromString(data)

    def answer(self, request: candidate_pb2.RetrieveCandidatesRequest) -> candidate_pb2.RetrieveCandidatesResponse:
        query = wire.unpack_retrieval_query(request)
        lists = []
        for position, count in enumerate(query.counts.tolist()):
            allowed = query.restrictions.get(position, NO_RESTRICTION).allowed
            possible = allowed if allowed is not None and self.heeds_allowed else np.arange(self.item_count)
            lists.append(np.setdiff1d(possible, query.exclusions[position])[:count])
        found = RaggedRows.from_lists([list_.astype(np.int32) for list_ in lists])
        return wire.pack_candidates(Candidates(found, -found.rows.astype(np.float32)), compute_microseconds=7)


class FakeRankingStage(FakeStage):
    """The score of a row is the row."""

    def parse(self, data: bytes) -> ranking_pb2.RankCandidatesRequest:
        return ranking_pb2.RankCandidatesRequest.FromString(data)

    def answer(self, request: ranking_pb2.RankCandidatesRequest) -> ranking_pb2.RankCandidatesResponse:
        found = wire.unpack_rows(request.candidates, "candidates")
        return wire.pack_scores(found.rows.astype(np.float32), compute_microseconds=9)


@dataclass
class FakeExternalSource(FakeStage):
    """Proposes `item_ids` for every query, whatever the history."""

    item_ids: list[str] = field(default_factory=list)

    def parse(self, data: bytes) -> source_pb2.ProposeCandidatesRequest:
        return source_pb2.ProposeCandidatesRequest.FromString(data)

    def answer(self, request: source_pb2.ProposeCandidatesRequest) -> source_pb2.ProposeCandidatesResponse:
        return source_pb2.ProposeCandidatesResponse(
            proposals=[source_pb2.ProposedCandidates(item_ids=self.item_ids) for _ in request.queries]
        )


def caller_of(
    stage: str, *replicas: FakeStage, settings: GatewaySettings | None = None, metrics: Metrics | None = None
) -> StageCaller:
    """Calls a stage whose replicas these are."""
    metrics = metrics or Metrics()
    known = [Replica(f"{stage}-{number}", replica.ask) for number, replica in enumerate(replicas)]
    return StageCaller(stage, Replicas(stage, metrics, known), settings or GatewaySettings(), metrics)


@dataclass
class Chain:
    """A pipeline over two fake stages."""

    catalogue: ServedCatalogue
    settings: GatewaySettings = field(default_factory=GatewaySettings)
    candidate: FakeCandidateStage = field(default_factory=FakeCandidateStage)
    ranking: FakeRankingStage = field(default_factory=FakeRankingStage)
    metrics: Metrics = field(default_factory=Metrics)
    further_sources: Sequence[Source] = ()

    def __post_init__(self) -> None:
        candidate_caller = caller_of("candidate", self.candidate, settings=self.settings, metrics=self.metrics)
        ranking_caller = caller_of("ranking", self.ranking, settings=self.settings, metrics=self.metrics)
        release_id, item_count = self.catalogue.release_id, len(self.catalogue.vocabulary)
        self.pipeline = Pipeline(
            self.catalogue,
            CandidateStageClient(candidate_caller, release_id, item_count),
            RankingStageClient(ranking_caller, release_id),
            self.settings,
            self.metrics,
            self.further_sources,
        )


def candidate_request(
    *watched: int,
    seconds: float = 1.0,
    item_count: int = 3,
    candidate_count: int = 10,
    require_ranked: bool = False,
    restriction: Restriction = NO_RESTRICTION,
    own_candidates: Sequence[int] | None = None,
    permitted: PermittedRows | None = None,
    rules: SelectionRules | None = None,
) -> CandidateRequest:
    """A request that is made within the running event loop."""
    return CandidateRequest(
        history=WatchHistories.of_one(rows(*watched)),
        item_count=item_count,
        candidate_count=candidate_count,
        excluded=rows(*watched),
        deadline=asyncio.get_running_loop().time() + seconds,
        require_ranked=require_ranked,
        restriction=restriction,
        permitted=permitted,
        own_candidates=None
        if own_candidates is None
        else OwnCandidates(rows(*own_candidates), numbered(len(own_candidates))),
        rules=rules,
        unknown_history_count=0,
        unknown_excluded_count=0,
    )


def rank_request(*candidates: int, seconds: float = 1.0) -> RankRequest:
    """A request that is made within the running event loop."""
    return RankRequest(
        history=WatchHistories.of_one(rows(1)),
        rows=rows(*candidates),
        deadline=asyncio.get_running_loop().time() + seconds,
        unknown_history_count=0,
        unknown_item_count=0,
    )
