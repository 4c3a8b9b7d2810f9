"""The gateway over gRPC: messages <-> requests and answers, and nothing else."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, NamedTuple, TypeAlias, TypeVar

import grpc

from gateway import batches
from gateway.admission import stage_deadline
from gateway.answer_log import AnswerLog
from gateway.answers import DegradationStep, Recommendation, RetrievedRows, ScoredRows
from gateway.catalogue_service import CatalogueService
from gateway.checks import Violations
from gateway.experiment import UserArm
from gateway.explanation import ExplainRequest, Explanation
from gateway.explanation_messages import write_explanation
from gateway.message_reader import MessageReader
from gateway.pipeline import Pipeline
from gateway.recommendation_ids import RecommendationIds
from gateway.releases import ServedReleases
from gateway.requests import CandidateRequest, RankRequest, RequestReader
from gateway.response_messages import (
    write_ranked,
    write_recommended,
    write_retrieved,
    write_similar,
    write_timing,
)
from gateway.served_catalogue import ServedCatalogue
from gateway.served_release import ServedRelease
from gateway.settings import GatewaySettings
from gateway.shadow import COMPARED_ITEMS, ShadowedRequest
from gateway.tokens import TokenCheck
from gateway.user_service import UserService, check_user_id
from gateway.users import StoredHistory, Users
from winnow.rpc.errors import InvalidRequestError
from winnow.serving.boundary import Gatekeeper, parse_or_explain, takes
from winnow.serving.metrics import Metrics
from winnow.serving.server import remaining_seconds, run_service
from winnow.users.addresses import store_at
from winnow.users.events import Event
from winnow.v1 import (
    catalogue_pb2,
    catalogue_pb2_grpc,
    recommendation_pb2,
    recommendation_pb2_grpc,
    users_pb2,
    users_pb2_grpc,
)

Message = TypeVar("Message")
Request = TypeVar("Request")
Answer = TypeVar("Answer")
Response = TypeVar(
    "Response",
    recommendation_pb2.RecommendItemsResponse,
    recommendation_pb2.RetrieveItemsResponse,
    recommendation_pb2.RankItemsResponse,
    recommendation_pb2.SimilarItemsResponse,
    recommendation_pb2.ExplainItemResponse,
)

SECONDS_PER_DAY = 86_400

Context: TypeAlias = "grpc.aio.ServicerContext[Any, Any]"


class _Asking(NamedTuple):
    """What is known of a call before a release answers it."""

    started: int
    """When it came, by time.perf_counter_ns."""
    arm: UserArm | None
    """The arm of its user in an experiment."""
    stored: StoredHistory | None
    """The history of its user; None where the request brings its own."""


class GatewayService(recommendation_pb2_grpc.RecommendationServiceServicer):
    """Implements winnow.v1.RecommendationService, and offers those of the catalogue and of users beside it."""

    name = "gateway"
    grpc_service_names = (
        recommendation_pb2.DESCRIPTOR.services_by_name["RecommendationService"].full_name,
        catalogue_pb2.DESCRIPTOR.services_by_name["CatalogueService"].full_name,
        users_pb2.DESCRIPTOR.services_by_name["UserService"].full_name,
    )

    def __init__(self, settings: GatewaySettings, metrics: Metrics) -> None:
        """Raise ValueError where a TLS file cannot be read or no store has the address in the settings."""
        self._settings = settings
        self._metrics = metrics
        self._parse_recommend = parse_or_explain(
            recommendation_pb2.RecommendItemsRequest.FromString, settings.max_framing_bytes
        )
        reader = RequestReader(settings)
        self._read = MessageReader(reader)
        self._ids = RecommendationIds()
        self._batches = batches.Batches(metrics)
        self._releases = ServedReleases(settings, metrics)
        self.keeper = self._releases.keeper
        self.watch = self._releases.watch
        self._catalogue_service = CatalogueService(self._releases, reader, settings, metrics)
        self._users = (
            Users(
                store_at(
                    settings.users_store, settings.users_max_events, settings.users_retention_days * SECONDS_PER_DAY
                ),
                settings,
                metrics,
            )
            if settings.users_store
            else None
        )
        self._answer_log = (
            AnswerLog(
                settings.answer_log,
                share=settings.answer_log_share,
                max_file_bytes=settings.answer_log_file_mebibytes << 20,
                metrics=metrics,
            )
            if settings.answer_log is not None and settings.answer_log_share
            else None
        )
        self._user_service = UserService(self._users, self._deadline, self._count_events)

    def register(self, server: grpc.aio.Server) -> None:
        """See Service.register."""
        recommendation_pb2_grpc.add_RecommendationServiceServicer_to_server(self, server)
        catalogue_pb2_grpc.add_CatalogueServiceServicer_to_server(self._catalogue_service, server)
        users_pb2_grpc.add_UserServiceServicer_to_server(self._user_service, server)

    async def start(self) -> None:
        """See Service.start."""
        if self._users is not None:
            await self._users.open()
        if self._answer_log is not None:
            self._answer_log.start()
        await self._releases.start()

    def gatekeepers(self) -> Sequence[Gatekeeper]:
        """See Service.gatekeepers. Raises ValueError where the tokens file cannot be read."""
        return [TokenCheck(self._settings.tokens_file)] if self._settings.tokens_file else []

    def alive(self) -> bool:
        """See Service.alive: the gateway computes on its event loop, and whoever asks has found that going."""
        return True

    async def close(self) -> None:
        """See Service.close."""
        await self._catalogue_service.close()
        await self._releases.close()
        if self._users is not None:
            await self._users.close()
        if self._answer_log is not None:
            await asyncio.to_thread(self._answer_log.close)

    @takes(bytes)
    async def RecommendItems(self, data: Any, context: Context) -> recommendation_pb2.RecommendItemsResponse:
        """Retrieve candidates for the history, rank them, return the best. `data` are the bytes of the request."""
        answered: list[ShadowedRequest] = []
        response = await self._recommend(data, self._deadline(context), answered)
        self._ask_shadow(answered)
        return response

    async def RetrieveItems(
        self, message: recommendation_pb2.RetrieveItemsRequest, context: Context
    ) -> recommendation_pb2.RetrieveItemsResponse:
        """Retrieve candidates only."""
        deadline = self._deadline(context)
        asking = await self._asking(message.user_id, deadline)
        return await self._respond(
            message, deadline, self._read.retrieve, Pipeline.retrieve, self._write_retrieved, asking
        )

    async def RankItems(
        self, message: recommendation_pb2.RankItemsRequest, context: Context
    ) -> recommendation_pb2.RankItemsResponse:
        """Score the caller's items."""
        deadline = self._deadline(context)
        asking = await self._asking(message.user_id, deadline)
        return await self._respond(message, deadline, self._read.rank, Pipeline.rank, self._write_ranked, asking)

    async def SimilarItems(
        self, message: recommendation_pb2.SimilarItemsRequest, context: Context
    ) -> recommendation_pb2.SimilarItemsResponse:
        """Find items that are watched after the given ones."""
        deadline = self._deadline(context)
        asking = await self._asking("", deadline)
        return await self._respond(
            message, deadline, self._read.similar, Pipeline.retrieve, self._write_similar, asking
        )

    async def ExplainItem(
        self, message: recommendation_pb2.ExplainItemRequest, context: Context
    ) -> recommendation_pb2.ExplainItemResponse:
        """Say why an item is or is not recommended."""
        deadline = self._deadline(context)
        asking = await self._asking(message.request.user_id, deadline, "request.user_id")
        return await self._respond(
            message, deadline, self._read.explain, Pipeline.explain, self._write_explained, asking
        )

    @takes(batches.split)
    async def BatchRecommendItems(
        self, requests: Any, context: Context
    ) -> recommendation_pb2.BatchRecommendItemsResponse:
        """Answer each request as RecommendItems does. `requests` are the bytes of each of them."""
        deadline = self._deadline(context)
        # Each request is admitted by itself too, since those before it are under way then.
        self._releases.current.pipeline.check_time(deadline)
        answered: list[ShadowedRequest] = []
        response = await self._batches.answer(requests, lambda data: self._recommend(data, deadline, answered))
        self._ask_shadow(answered)
        return response

    def _deadline(self, context: Context) -> float:
        return stage_deadline(remaining_seconds(context, self._settings), self._settings)

    async def _recommend(
        self, data: bytes, deadline: float, answered: list[ShadowedRequest]
    ) -> recommendation_pb2.RecommendItemsResponse:
        """Answer a request. What a shadow is to be asked too is added to `answered`."""
        # What is rejected is not even parsed: under overload most of the work would be for that.
        self._releases.current.pipeline.check_time(deadline)
        message = self._parse_recommend(data)
        if isinstance(message, InvalidRequestError):
            raise message
        asking = await self._asking(message.user_id, deadline)
        response = await self._respond(
            message, deadline, self._read.recommend, Pipeline.recommend, self._write_recommended, asking
        )
        if self._releases.experiment is not None:
            self._take_part(message, response, asking, answered)
        if self._answer_log is not None:
            self._answer_log.offer(message, response)
        return response

    def _take_part(
        self,
        message: recommendation_pb2.RecommendItemsRequest,
        response: recommendation_pb2.RecommendItemsResponse,
        asking: _Asking,
        answered: list[ShadowedRequest],
    ) -> None:
        """Do what an experiment asks for an answer: count its arm, and keep it if the shadow is to be asked too."""
        arm, stored = asking.arm, asking.stored
        degraded = response.degradation.step != recommendation_pb2.DEGRADATION_STEP_NONE
        if arm is not None and response.experiment_arm:
            response.recommendation_id = self._ids.marked(arm.figures.mark)
            arm.figures.count_answer(arm.group, response.timing.total_microseconds / 1e6, degraded=degraded)
        shadow = self._releases.shadow
        if shadow is not None and not degraded and shadow.chooses():
            answered.append(
                ShadowedRequest(
                    read=lambda catalogue, deadline: self._read.recommend(message, catalogue, deadline, stored),
                    item_ids=[item.item_id for item in response.items[:COMPARED_ITEMS]],
                    group=None if arm is None else arm.group,
                )
            )

    def _ask_shadow(self, answered: Sequence[ShadowedRequest]) -> None:
        """Ask the shadow what has been answered. It begins when the answer has been handed over."""
        shadow = self._releases.shadow
        if shadow is not None:
            for request in answered:
                shadow.ask(request)

    def _count_events(self, events: Sequence[Event]) -> None:
        if self._releases.experiment is not None:
            self._releases.experiment.count_events(events)

    async def _asking(self, user_id: str, deadline: float, user_field: str = "user_id") -> _Asking:
        """Begin a call. A `user_id`, which the message has in `user_field`, brings the history and the arm of a user.

        Raises InvalidRequestError where the id is too long or there is no store.
        """
        started = time.perf_counter_ns()
        arm = self._releases.arm_of(user_id)
        stored = await self._stored_history(user_id, user_field, deadline, arm) if user_id else None
        return _Asking(started, arm, stored)

    async def _respond(
        self,
        message: Message,
        deadline: float,
        read: Callable[[Message, ServedCatalogue, float, StoredHistory | None], Request],
        ask: Callable[..., Awaitable[Answer]],
        write: Callable[[ServedCatalogue, Request, Answer], Response],
        asking: _Asking,
    ) -> Response:
        """Read the message, answer it from one release, write the answer: the shape of every call."""
        started, arm, stored = asking

        async def from_release(release: ServedRelease, other_release: bool) -> Response:
            request = read(message, release.catalogue, deadline, stored)
            answer = await ask(release.pipeline, request, other_release=other_release)
            response = write(release.catalogue, request, answer)
            response.timing.total_microseconds = (time.perf_counter_ns() - started) // 1000
            response.recommendation_id = self._ids.next()
            return response

        answered = await self._releases.answer(from_release, arm)
        if arm is not None and self._releases.is_of_arm(answered.release_id, arm):
            # Of similar items there is no user, and so no arm.
            assert not isinstance(answered, recommendation_pb2.SimilarItemsResponse)  # noqa: S101 - a promise above
            answered.experiment_arm = arm.figures.name
        return answered

    async def _stored_history(self, user_id: str, field: str, deadline: float, arm: UserArm | None) -> StoredHistory:
        """See `_asking` for what is raised."""
        violations = Violations()
        if self._users is None:
            violations.add(field, "is set, but this gateway has no store of users")
        check_user_id(user_id, violations, field)
        violations.refuse()
        assert self._users is not None  # noqa: S101 - refused otherwise
        # What is not read is missing, and no more.
        with_impressions = self._releases.reads_contexts(arm)
        return await self._users.stored_history(user_id, deadline, with_impressions=with_impressions)

    def _write_recommended(
        self, catalogue: ServedCatalogue, request: CandidateRequest, answer: Recommendation
    ) -> recommendation_pb2.RecommendItemsResponse:
        self._count_unknown_of(request)
        if answer.degradation is not DegradationStep.NONE:
            self._metrics.degraded.labels(answer.degradation.name, answer.degradation_reason).inc()
        if answer.ranked_count < answer.retrieved_count:
            self._metrics.candidates_left_unranked.inc(answer.retrieved_count - answer.ranked_count)
        return write_recommended(catalogue, request, answer)

    def _write_retrieved(
        self, catalogue: ServedCatalogue, request: CandidateRequest, answer: RetrievedRows
    ) -> recommendation_pb2.RetrieveItemsResponse:
        self._count_unknown_of(request)
        return write_retrieved(catalogue, request, answer)

    def _write_ranked(
        self, catalogue: ServedCatalogue, request: RankRequest, answer: ScoredRows
    ) -> recommendation_pb2.RankItemsResponse:
        self._count_unknown("history", request.unknown_history_count)
        self._count_unknown("item_ids", request.unknown_item_count)
        return write_ranked(catalogue, request, answer)

    def _write_similar(
        self, catalogue: ServedCatalogue, request: CandidateRequest, answer: RetrievedRows
    ) -> recommendation_pb2.SimilarItemsResponse:
        self._count_unknown("item_ids", request.unknown_history_count)
        self._count_unknown("excluded_item_ids", request.unknown_excluded_count)
        self._count_unknown("allowed_item_ids", request.unknown_allowed_count)
        return write_similar(catalogue, request, answer)

    def _write_explained(
        self, catalogue: ServedCatalogue, request: ExplainRequest, answer: Explanation
    ) -> recommendation_pb2.ExplainItemResponse:
        self._count_unknown_of(request.recommendation)
        self._count_unknown("item_id", int(request.row is None))
        response = write_explanation(catalogue, request, answer)
        response.timing.CopyFrom(write_timing(answer.timing))
        return response

    def _count_unknown_of(self, request: CandidateRequest) -> None:
        self._count_unknown("history", request.unknown_history_count)
        self._count_unknown("excluded_item_ids", request.unknown_excluded_count)
        self._count_unknown("allowed_item_ids", request.unknown_allowed_count)
        self._count_unknown("candidate_item_ids", request.unknown_candidate_count)
        self._count_unknown("pinned_items", request.unknown_pinned_count)

    def _count_unknown(self, field: str, count: int) -> None:
        if count:
            self._metrics.unknown_ids.labels(field).inc(count)


def run_gateway(settings: GatewaySettings) -> int:
    """Serve in this process; return the exit status."""
    return run_service(GatewayService, settings)
