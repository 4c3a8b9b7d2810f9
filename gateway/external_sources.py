"""The client of an external candidate source: a server of the operator's, whose answers are not trusted."""

import asyncio
from collections.abc import Sequence

import grpc
import numpy as np
import structlog
from google.protobuf.message import DecodeError

from gateway.circuit_breaker import CircuitBreaker
from gateway.settings import ExternalSourceSettings
from gateway.stage_calls import StageCaller, StageFailure
from winnow.serving.boundary import LOOKED_INTO_FROM_BYTES
from winnow.serving.decoding import has_more_framing
from winnow.serving.metrics import Metrics
from winnow.v1 import source_pb2

_log = structlog.get_logger(__name__)

PROPOSE_METHOD = "/winnow.v1.CandidateSourceService/ProposeCandidates"
# Tag and length of an id of up to 512 bytes, and a score with a tag of its own; tags and lengths around the candidates.
FRAMING_BYTES_PER_CANDIDATE = 8
FRAMING_BYTES_PER_QUERY = 32
CIRCUIT_OPEN = "CIRCUIT_OPEN"


class ExternalSourceClient:
    """Asks for the candidates of a batch. One a source for the life of the gateway, shared by all releases.

    A source that keeps failing is left alone. Whether it fails is judged by calls that had the whole of its timeout:
    callers in a hurry cannot take it away from the others.
    """

    def __init__(self, settings: ExternalSourceSettings, caller: StageCaller, metrics: Metrics) -> None:
        self.settings = settings
        self._caller = caller
        self._failures = metrics.source_failures
        self._breaker = CircuitBreaker()
        self._unhurried: asyncio.Task[None] | None = None

    async def propose(self, histories: Sequence[Sequence[str]], deadline: float) -> list[list[str]] | None:
        """Return item ids for each history, best first; None where there is no usable answer in time.

        The deadline is event-loop time; the source's own timeout may end sooner.
        """
        now = asyncio.get_running_loop().time()
        timeout_ends = now + self.settings.timeout_seconds
        if self._breaker.open:
            self._count(CIRCUIT_OPEN)
            if self._breaker.take_probe(now):
                self._try_unhurried(self._request(histories))
            return None
        request = self._request(histories)
        try:
            answer = await self._ask(request, min(deadline, timeout_ends))
        except StageFailure as failure:
            self._count(failure.code.name)
            if failure.code is grpc.StatusCode.DEADLINE_EXCEEDED and deadline < timeout_ends:
                self._try_unhurried(request)
            else:
                self._failed(failure)
            return None
        self._breaker.answered()
        return answer

    def _request(self, histories: Sequence[Sequence[str]]) -> source_pb2.ProposeCandidatesRequest:
        count = self.settings.candidate_count
        return source_pb2.ProposeCandidatesRequest(
            queries=[
                source_pb2.CandidateQuery(history_item_ids=history, candidate_count=count) for history in histories
            ]
        )

    def _count(self, reason: str) -> None:
        self._failures.labels(self.settings.name, reason).inc()

    def _failed(self, failure: StageFailure) -> None:
        if self._breaker.failed(asyncio.get_running_loop().time()):
            _log.warning("candidate source is left alone", source=self.settings.name, reason=failure.reason)

    def _try_unhurried(self, request: source_pb2.ProposeCandidatesRequest) -> None:
        """Ask with the whole timeout while nobody waits, unless that is under way."""
        if self._unhurried is None or self._unhurried.done():
            self._unhurried = asyncio.create_task(self._judge(request))

    async def _judge(self, request: source_pb2.ProposeCandidatesRequest) -> None:
        loop = asyncio.get_running_loop()
        try:
            await self._ask(request, loop.time() + self.settings.timeout_seconds)
        except StageFailure as failure:
            if self._breaker.open:
                self._breaker.probed(loop.time(), good=False)
            else:
                self._failed(failure)
            return
        if self._breaker.open:
            self._breaker.probed(loop.time(), good=True)
            _log.info("candidate source is asked again", source=self.settings.name)
        else:
            self._breaker.answered()

    async def _ask(self, request: source_pb2.ProposeCandidatesRequest, deadline: float) -> list[list[str]]:
        """Raise StageFailure where there is no usable answer."""
        query_count = len(request.queries)
        return await self._caller.call(
            request.SerializeToString(), lambda data: self._read(data, query_count), deadline
        )

    def _read(self, data: bytes, query_count: int) -> list[list[str]]:
        """Raise ValueError where the data is no answer to so many queries."""
        response_class = source_pb2.ProposeCandidatesResponse
        per_query = FRAMING_BYTES_PER_QUERY + FRAMING_BYTES_PER_CANDIDATE * self.settings.candidate_count
        # What a right answer never has would take long to parse.
        if len(data) >= LOOKED_INTO_FROM_BYTES and has_more_framing(
            response_class.DESCRIPTOR, data, per_query * query_count
        ):
            raise ValueError(f"more fields than {query_count} queries need")
        try:
            response = response_class.FromString(data)
        except DecodeError as error:
            raise ValueError(str(error)) from error
        if len(response.proposals) != query_count:
            raise ValueError(f"{len(response.proposals)} lists for {query_count} queries")
        return [_best_ids(proposal, self.settings.candidate_count) for proposal in response.proposals]


def _best_ids(proposal: source_pb2.ProposedCandidates, count: int) -> list[str]:
    """Return the best ids, best first. Raises ValueError where the scores do not fit."""
    if not proposal.scores:
        return list(proposal.item_ids[:count])
    if len(proposal.scores) != len(proposal.item_ids):
        raise ValueError(f"{len(proposal.scores)} scores for {len(proposal.item_ids)} ids")
    scores = np.array(proposal.scores, dtype=np.float32)
    if not np.isfinite(scores).all():
        raise ValueError("a score is not finite")
    return [proposal.item_ids[position] for position in np.argsort(-scores, kind="stable")[:count].tolist()]
