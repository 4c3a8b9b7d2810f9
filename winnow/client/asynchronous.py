"""The client for asyncio."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self, TypeVar

import grpc

from winnow.batching import BatchingLimits, MicroBatcher, NoMetrics
from winnow.client.answers import Items, RankedItems, Recommendations, ReleaseSchema, RetrievedItems, SearchPage
from winnow.client.batches import batch_requests, explain_request, outcomes, packed
from winnow.client.connection import call_metadata, channel_options
from winnow.client.errors import WinnowError, error_of
from winnow.client.events import Event, events_of, history_request, write_requests
from winnow.client.explanations import Explanation, SimilarItems
from winnow.client.releases import ReleaseFacts, ServiceStatus, release_facts, service_status
from winnow.client.request_messages import (
    MAX_PAGE_SIZE,
    RecommendationRequest,
    items_requests,
    rank_request,
    recommend_request,
    retrieve_request,
    search_request,
    similar_request,
)
from winnow.client.response_messages import (
    explanation,
    items,
    ranked_items,
    recommendations,
    release_schema,
    retrieved_items,
    search_page,
    similar_items,
)
from winnow.client.watches import History, Time
from winnow.rpc.credentials import channel_credentials
from winnow.rpc.errors import ServiceError
from winnow.v1 import (
    catalogue_pb2,
    catalogue_pb2_grpc,
    recommendation_pb2,
    recommendation_pb2_grpc,
    status_pb2,
    status_pb2_grpc,
    users_pb2,
    users_pb2_grpc,
)

Response = TypeVar("Response")

# As many requests as the gateway sends to a stage in one call by default.
COALESCED = BatchingLimits(max_batch_weight=64, max_batches_in_flight=8, max_queued_weight=4096)
# Calls that `recommend_many` makes at the same time.
CALLS_AT_ONCE = 4
# gRPC takes 0 for no time at all, and a deadline may pass on the way.
SHORTEST_TIMEOUT_SECONDS = 0.001


class AsyncWinnowClient:
    """Calls a gateway from an event loop. Make one within the loop and keep it. Arguments and errors: see WinnowClient.

    With `coalesce`, `recommend` calls that wait at the same time travel in one call of the gateway, which costs it less
    than half. A call that finds none in flight is sent at once. A queue of 4,096 is the limit: RESOURCE_EXHAUSTED.
    """

    def __init__(
        self,
        target: str,
        *,
        timeout_seconds: float = 1.0,
        retries: bool = True,
        coalesce: bool = False,
        ca_file: Path | None = None,
        certificate_file: Path | None = None,
        key_file: Path | None = None,
        token: str | None = None,
    ) -> None:
        """Raise ValueError if a TLS file cannot be read."""
        options = channel_options(retries=retries)
        credentials = channel_credentials(ca_file, certificate_file, key_file)
        self._channel = (
            grpc.aio.insecure_channel(target, options)
            if credentials is None
            else grpc.aio.secure_channel(target, credentials, options)
        )
        self._metadata = call_metadata(token)
        self._timeout_seconds = timeout_seconds
        self._recommendation = recommendation_pb2_grpc.RecommendationServiceStub(self._channel)
        self._catalogue = catalogue_pb2_grpc.CatalogueServiceStub(self._channel)
        self._users = users_pb2_grpc.UserServiceStub(self._channel)
        self._status = status_pb2_grpc.StatusServiceStub(self._channel)
        self._coalesced = (
            MicroBatcher[recommendation_pb2.RecommendItemsRequest, Recommendations | WinnowError](
                self._recommend_together, COALESCED, NoMetrics()
            )
            if coalesce
            else None
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Wait for coalesced calls in flight and close the connection."""
        if self._coalesced is not None:
            await self._coalesced.close()
        await self._channel.close()

    async def recommend(
        self,
        history: History = (),
        *,
        count: int = 20,
        filter: str = "",  # noqa: A002 - as in the contract
        allowed_item_ids: Iterable[str] | None = None,
        excluded_item_ids: Iterable[str] = (),
        include_watched: bool = False,
        require_ranked: bool = False,
        request_time: Time | None = None,
        unclicked_item_ids: Iterable[str] = (),
        candidate_item_ids: Iterable[str] = (),
        caps: Mapping[str, int] | None = None,
        pinned_items: Mapping[str, int] | None = None,
        diversity: float | None = None,
        user_id: str | None = None,
    ) -> Recommendations:
        """See WinnowClient.recommend."""
        request = RecommendationRequest(
            history,
            count=count,
            filter=filter,
            allowed_item_ids=allowed_item_ids,
            excluded_item_ids=excluded_item_ids,
            include_watched=include_watched,
            require_ranked=require_ranked,
            request_time=request_time,
            unclicked_item_ids=unclicked_item_ids,
            candidate_item_ids=candidate_item_ids,
            caps=caps,
            pinned_items=pinned_items,
            diversity=diversity,
            user_id=user_id,
        )
        if self._coalesced is None:
            return recommendations(await self._call(self._recommendation.RecommendItems, recommend_request(request)))
        deadline = asyncio.get_running_loop().time() + self._timeout_seconds
        try:
            outcome = await self._coalesced.submit(recommend_request(request), deadline=deadline)
        except ServiceError as error:
            raise WinnowError(error.code, str(error), ()) from None
        if isinstance(outcome, WinnowError):
            raise outcome
        return outcome

    async def recommend_many(self, requests: Iterable[RecommendationRequest]) -> list[Recommendations | WinnowError]:
        """See WinnowClient.recommend_many. Up to four calls are in flight at once."""
        return await self._recommend_batches(batch_requests(requests), self._timeout_seconds)

    async def retrieve(
        self,
        history: History = (),
        *,
        count: int = 200,
        filter: str = "",  # noqa: A002 - as in the contract
        allowed_item_ids: Iterable[str] | None = None,
        excluded_item_ids: Iterable[str] = (),
        include_watched: bool = False,
        user_id: str | None = None,
    ) -> RetrievedItems:
        """See WinnowClient.retrieve."""
        request = retrieve_request(
            history,
            count=count,
            filter=filter,
            allowed_item_ids=allowed_item_ids,
            excluded_item_ids=excluded_item_ids,
            include_watched=include_watched,
            user_id=user_id,
        )
        return retrieved_items(await self._call(self._recommendation.RetrieveItems, request))

    async def rank(
        self,
        history: History,
        item_ids: Iterable[str],
        *,
        request_time: Time | None = None,
        unclicked_item_ids: Iterable[str] = (),
        user_id: str | None = None,
    ) -> RankedItems:
        """See WinnowClient.rank."""
        request = rank_request(
            history, item_ids, request_time=request_time, unclicked_item_ids=unclicked_item_ids, user_id=user_id
        )
        return ranked_items(await self._call(self._recommendation.RankItems, request))

    async def similar(
        self,
        item_ids: Iterable[str],
        *,
        count: int = 20,
        filter: str = "",  # noqa: A002 - as in the contract
        allowed_item_ids: Iterable[str] | None = None,
        excluded_item_ids: Iterable[str] = (),
    ) -> SimilarItems:
        """See WinnowClient.similar."""
        request = similar_request(
            item_ids,
            count=count,
            filter=filter,
            allowed_item_ids=allowed_item_ids,
            excluded_item_ids=excluded_item_ids,
        )
        return similar_items(await self._call(self._recommendation.SimilarItems, request))

    async def explain(self, request: RecommendationRequest, item_id: str, *, watch_count: int = 20) -> Explanation:
        """See WinnowClient.explain."""
        message = explain_request(request, item_id, watch_count=watch_count)
        return explanation(await self._call(self._recommendation.ExplainItem, message))

    async def schema(self) -> ReleaseSchema:
        """See WinnowClient.schema."""
        return release_schema(
            await self._call(self._catalogue.GetReleaseSchema, catalogue_pb2.GetReleaseSchemaRequest())
        )

    async def release(self) -> ReleaseFacts:
        """See WinnowClient.release."""
        return release_facts(await self._call(self._catalogue.GetRelease, catalogue_pb2.GetReleaseRequest()))

    async def status(self) -> ServiceStatus:
        """See WinnowClient.status."""
        return service_status(await self._call(self._status.GetStatus, status_pb2.GetStatusRequest()))

    async def items(self, item_ids: Iterable[str]) -> Items:
        """See WinnowClient.items."""
        requests = items_requests(item_ids)
        return items([await self._call(self._catalogue.BatchGetItems, request) for request in requests])

    async def search(self, title_contains: str, *, count: int = 20, page_token: str | None = None) -> SearchPage:
        """See WinnowClient.search."""
        request = search_request(title_contains, count=count, page_token=page_token)
        return search_page(await self._call(self._catalogue.SearchItems, request))

    async def search_pages(self, title_contains: str) -> AsyncIterator[SearchPage]:
        """See WinnowClient.search_pages."""
        page_token = None
        while True:
            page = await self.search(title_contains, count=MAX_PAGE_SIZE, page_token=page_token)
            yield page
            page_token = page.next_page_token
            if page_token is None:
                return

    async def write_events(self, events: Iterable[Event]) -> None:
        """See WinnowClient.write_events."""
        for request in write_requests(events):
            await self._call(self._users.WriteEvents, request)

    async def history(self, user_id: str) -> list[Event]:
        """See WinnowClient.history."""
        found: list[Event] = []
        page_token = ""
        while True:
            page = await self._call(self._users.GetHistory, history_request(user_id, page_token))
            found += events_of(page)
            page_token = page.next_page_token
            if not page_token:
                return found

    async def delete_user(self, user_id: str) -> int:
        """See WinnowClient.delete_user."""
        request = users_pb2.DeleteUserRequest(user_id=user_id)
        return (await self._call(self._users.DeleteUser, request)).deleted_event_count

    async def _call(
        self, method: Callable[..., Awaitable[Response]], request: object, timeout_seconds: float | None = None
    ) -> Response:
        try:
            return await method(request, timeout=timeout_seconds or self._timeout_seconds, metadata=self._metadata)
        except grpc.RpcError as failure:
            raise error_of(failure) from None

    async def _recommend_together(
        self, requests: Sequence[recommendation_pb2.RecommendItemsRequest], deadline: float
    ) -> list[Recommendations | WinnowError]:
        """Answer requests that waited at the same time: in one call, unless they are too large for one."""
        remaining_seconds = deadline - asyncio.get_running_loop().time()
        return await self._recommend_batches(packed(requests), max(remaining_seconds, SHORTEST_TIMEOUT_SECONDS))

    async def _recommend_batches(
        self, batches: Sequence[recommendation_pb2.BatchRecommendItemsRequest], timeout_seconds: float
    ) -> list[Recommendations | WinnowError]:
        """Return one outcome for each request, also where a call as a whole fails."""
        free = asyncio.Semaphore(CALLS_AT_ONCE)

        async def call(batch: recommendation_pb2.BatchRecommendItemsRequest) -> list[Recommendations | WinnowError]:
            async with free:
                try:
                    method = self._recommendation.BatchRecommendItems
                    return outcomes(await self._call(method, batch, timeout_seconds))
                except WinnowError as error:
                    return [error.of_each_request() for _ in batch.requests]

        return [outcome for answer in await asyncio.gather(*map(call, batches)) for outcome in answer]
