"""The client for threads: every call blocks until it is answered."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Self, TypeVar

import grpc

from winnow.client.answers import Items, RankedItems, Recommendations, ReleaseSchema, RetrievedItems, SearchPage
from winnow.client.batches import batch_requests, explain_request, outcomes
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


class WinnowClient:
    """Calls a gateway. Thread-safe; make one and keep it.

    Every method raises WinnowError if the call fails, TypeError or ValueError if an argument makes no sense.
    `timeout_seconds` is the deadline of each call, retries included. `target` may be a name with several addresses.
    `ca_file` turns TLS on, `certificate_file` and `key_file` are for mutual TLS; `token` is sent as a bearer token.
    """

    def __init__(
        self,
        target: str,
        *,
        timeout_seconds: float = 1.0,
        retries: bool = True,
        ca_file: Path | None = None,
        certificate_file: Path | None = None,
        key_file: Path | None = None,
        token: str | None = None,
    ) -> None:
        """Raise ValueError if a TLS file cannot be read."""
        options = channel_options(retries=retries)
        credentials = channel_credentials(ca_file, certificate_file, key_file)
        self._channel = (
            grpc.insecure_channel(target, options)
            if credentials is None
            else grpc.secure_channel(target, credentials, options)
        )
        self._metadata = call_metadata(token)
        self._timeout_seconds = timeout_seconds
        self._recommendation = recommendation_pb2_grpc.RecommendationServiceStub(self._channel)
        self._catalogue = catalogue_pb2_grpc.CatalogueServiceStub(self._channel)
        self._users = users_pb2_grpc.UserServiceStub(self._channel)
        self._status = status_pb2_grpc.StatusServiceStub(self._channel)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection."""
        self._channel.close()

    def recommend(
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
        """Return the `count` best items, 1 to 100, for a watch history, oldest watch first.

        Only items that match the `filter`, such as `genres:"Comedy" AND year >= 1990`, are returned, and only
        `allowed_item_ids`, up to 10,000; None allows all. Watched items are left out unless `include_watched`.
        `require_ranked` makes a degraded answer an error (UNAVAILABLE). `request_time` is now unless given, and
        `unclicked_item_ids` is what the user was shown before without clicking on it: some releases rank by them.
        `candidate_item_ids`, up to 1,000, best first, are ranked together with the candidates that the gateway finds.
        `caps` such as `{"genres": 3}` limit how many items have the same value of an attribute, `pinned_items` maps
        item ids to positions, from 1, and `diversity`, from 0 to 1, makes the items differ. None means the gateway's
        default caps and diversity. An item that these move says why.
        `user_id` names a user whose events are stored: `history` is then what the store does not have yet, if anything.
        """
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
        return recommendations(self._call(self._recommendation.RecommendItems, recommend_request(request)))

    def recommend_many(self, requests: Iterable[RecommendationRequest]) -> list[Recommendations | WinnowError]:
        """Answer many requests: for each, in order, what `recommend` would return, or the WinnowError it would raise.

        A call carries up to 256 of them, for less than half of what each would cost alone. `timeout_seconds` is the
        deadline of each call. If a call fails, all of its requests have its error.
        """
        return [outcome for batch in batch_requests(requests) for outcome in self._recommend_batch(batch)]

    def retrieve(
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
        """Return the `count` best candidates, 1 to 1,000, in candidate order: for callers with a ranker of their own.

        See `recommend` for the other arguments.
        """
        request = retrieve_request(
            history,
            count=count,
            filter=filter,
            allowed_item_ids=allowed_item_ids,
            excluded_item_ids=excluded_item_ids,
            include_watched=include_watched,
            user_id=user_id,
        )
        return retrieved_items(self._call(self._recommendation.RetrieveItems, request))

    def rank(
        self,
        history: History,
        item_ids: Iterable[str],
        *,
        request_time: Time | None = None,
        unclicked_item_ids: Iterable[str] = (),
        user_id: str | None = None,
    ) -> RankedItems:
        """Score the given items for a watch history: for callers with candidates of their own.

        Items that the release does not know are left out and counted. See `recommend` for the other arguments.
        """
        request = rank_request(
            history, item_ids, request_time=request_time, unclicked_item_ids=unclicked_item_ids, user_id=user_id
        )
        return ranked_items(self._call(self._recommendation.RankItems, request))

    def similar(
        self,
        item_ids: Iterable[str],
        *,
        count: int = 20,
        filter: str = "",  # noqa: A002 - as in the contract
        allowed_item_ids: Iterable[str] | None = None,
        excluded_item_ids: Iterable[str] = (),
    ) -> SimilarItems:
        """Return the `count` items, 1 to 100, that are watched after the given ones: for the page of an item.

        Of several items, up to 100, the last ones count most. Popular items are returned if the release knows none of
        them. See `recommend` for the other arguments.
        """
        request = similar_request(
            item_ids,
            count=count,
            filter=filter,
            allowed_item_ids=allowed_item_ids,
            excluded_item_ids=excluded_item_ids,
        )
        return similar_items(self._call(self._recommendation.SimilarItems, request))

    def explain(self, request: RecommendationRequest, item_id: str, *, watch_count: int = 20) -> Explanation:
        """Say why an item is, or is not, among the recommendations, and what each watch contributed.

        `request` is what was, or would be, asked with `recommend`. Contributions are of the most recent watches, up to
        `watch_count`, 1 to 50. If a stage gives no answer, that is an error (UNAVAILABLE).
        """
        message = explain_request(request, item_id, watch_count=watch_count)
        return explanation(self._call(self._recommendation.ExplainItem, message))

    def release(self) -> ReleaseFacts:
        """Return what the served release was made from, and how good it was on held-out data."""
        return release_facts(self._call(self._catalogue.GetRelease, catalogue_pb2.GetReleaseRequest()))

    def status(self) -> ServiceStatus:
        """Return which releases the service holds and uses. The target may be any of the three services."""
        return service_status(self._call(self._status.GetStatus, status_pb2.GetStatusRequest()))

    def items(self, item_ids: Iterable[str]) -> Items:
        """Look up titles and attributes. More than 1,000 ids take several calls."""
        return items([self._call(self._catalogue.BatchGetItems, request) for request in items_requests(item_ids)])

    def search(self, title_contains: str, *, count: int = 20, page_token: str | None = None) -> SearchPage:
        """Find items by a part of their title, ignoring case, the most popular first: `count`, 1 to 100, of them.

        `page_token` is the `next_page_token` of the page before. WinnowError (INVALID_ARGUMENT) says that the release
        has changed since: search again.
        """
        request = search_request(title_contains, count=count, page_token=page_token)
        return search_page(self._call(self._catalogue.SearchItems, request))

    def search_pages(self, title_contains: str) -> Iterator[SearchPage]:
        """Find all items as `search` does, 100 a page. Each page is one call, made when it is asked for."""
        page_token = None
        while True:
            page = self.search(title_contains, count=MAX_PAGE_SIZE, page_token=page_token)
            yield page
            page_token = page.next_page_token
            if page_token is None:
                return

    def schema(self) -> ReleaseSchema:
        """Return the attributes of the release's items: what a filter can compare."""
        return release_schema(self._call(self._catalogue.GetReleaseSchema, catalogue_pb2.GetReleaseSchemaRequest()))

    def write_events(self, events: Iterable[Event]) -> None:
        """Store what users did; return when the gateway's store has all of it.

        If it raises, send the same events again: those that are stored are left as they are. More than 1,000 take
        several calls, one after the other.
        """
        for request in write_requests(events):
            self._call(self._users.WriteEvents, request)

    def history(self, user_id: str) -> list[Event]:
        """Return all stored events of a user, oldest first; none for a user whom the store does not know."""
        found: list[Event] = []
        page_token = ""
        while True:
            page = self._call(self._users.GetHistory, history_request(user_id, page_token))
            found += events_of(page)
            page_token = page.next_page_token
            if not page_token:
                return found

    def delete_user(self, user_id: str) -> int:
        """Remove all stored events of a user; return how many there were."""
        request = users_pb2.DeleteUserRequest(user_id=user_id)
        return self._call(self._users.DeleteUser, request).deleted_event_count

    def _recommend_batch(
        self, batch: recommendation_pb2.BatchRecommendItemsRequest
    ) -> list[Recommendations | WinnowError]:
        try:
            return outcomes(self._call(self._recommendation.BatchRecommendItems, batch))
        except WinnowError as error:
            return [error.of_each_request() for _ in batch.requests]

    def _call(self, method: Callable[..., Response], request: object) -> Response:
        try:
            return method(request, timeout=self._timeout_seconds, metadata=self._metadata)
        except grpc.RpcError as failure:
            raise error_of(failure) from None
