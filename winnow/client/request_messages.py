"""From a caller's arguments to request messages.

Only what the gateway could not tell is checked here: arguments of a wrong type, and a count of 0, which would be its
default. Everything else it checks itself.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TypeVar

from winnow.client.watches import History, Time, Watch
from winnow.v1 import catalogue_pb2, recommendation_pb2

# The contract's maxima: see the comments in protos/.
MAX_ITEMS = 100
MAX_CANDIDATES = 1_000
MAX_LOOKED_UP_ITEMS = 1_000
MAX_PAGE_SIZE = 100

Element = TypeVar("Element")


@dataclass(frozen=True, slots=True)
class RecommendationRequest:
    """The arguments of `recommend`: one request of several, or one to explain."""

    history: History = ()
    count: int = 20
    filter: str = ""
    allowed_item_ids: Iterable[str] | None = None
    excluded_item_ids: Iterable[str] = ()
    include_watched: bool = False
    require_ranked: bool = False
    request_time: Time | None = None
    unclicked_item_ids: Iterable[str] = ()
    candidate_item_ids: Iterable[str] = ()
    caps: Mapping[str, int] | None = None
    pinned_items: Mapping[str, int] | None = None
    diversity: float | None = None
    user_id: str | None = None


def recommend_request(request: RecommendationRequest) -> recommendation_pb2.RecommendItemsRequest:
    """Raise TypeError or ValueError that names the argument."""
    return recommendation_pb2.RecommendItemsRequest(
        history=_watches(request.history),
        item_count=_count(request.count, MAX_ITEMS),
        filter=_filter(request.filter),
        allowed_item_ids=_allowed(request.allowed_item_ids),
        excluded_item_ids=_ids("excluded_item_ids", request.excluded_item_ids),
        include_watched=request.include_watched,
        require_ranked=request.require_ranked,
        request_timestamp_seconds=seconds_of("request_time", request.request_time),
        unclicked_item_ids=_ids("unclicked_item_ids", request.unclicked_item_ids),
        candidate_item_ids=_ids("candidate_item_ids", request.candidate_item_ids),
        caps=[
            recommendation_pb2.AttributeCap(attribute=attribute, max_count=max_count)
            for attribute, max_count in _numbers("caps", "attributes", request.caps)
        ],
        pinned_items=[
            recommendation_pb2.PinnedItem(item_id=item_id, position=position)
            for item_id, position in _numbers("pinned_items", "item ids", request.pinned_items)
        ],
        diversity=request.diversity,
        user_id=_user_id(request.user_id),
    )


def retrieve_request(
    history: History,
    *,
    count: int,
    filter: str,  # noqa: A002 - as in the contract
    allowed_item_ids: Iterable[str] | None,
    excluded_item_ids: Iterable[str],
    include_watched: bool,
    user_id: str | None,
) -> recommendation_pb2.RetrieveItemsRequest:
    """Raise TypeError or ValueError that names the argument."""
    return recommendation_pb2.RetrieveItemsRequest(
        history=_watches(history),
        item_count=_count(count, MAX_CANDIDATES),
        filter=_filter(filter),
        allowed_item_ids=_allowed(allowed_item_ids),
        excluded_item_ids=_ids("excluded_item_ids", excluded_item_ids),
        include_watched=include_watched,
        user_id=_user_id(user_id),
    )


def rank_request(
    history: History,
    item_ids: Iterable[str],
    *,
    request_time: Time | None,
    unclicked_item_ids: Iterable[str],
    user_id: str | None,
) -> recommendation_pb2.RankItemsRequest:
    """Raise TypeError or ValueError that names the argument."""
    return recommendation_pb2.RankItemsRequest(
        history=_watches(history),
        item_ids=_ids("item_ids", item_ids),
        request_timestamp_seconds=seconds_of("request_time", request_time),
        unclicked_item_ids=_ids("unclicked_item_ids", unclicked_item_ids),
        user_id=_user_id(user_id),
    )


def items_requests(item_ids: Iterable[str]) -> list[catalogue_pb2.BatchGetItemsRequest]:
    """Return as many requests as the ids need, each id once. Raise TypeError that names the argument."""
    ids = list(dict.fromkeys(_ids("item_ids", item_ids)))
    return [
        catalogue_pb2.BatchGetItemsRequest(item_ids=ids[start : start + MAX_LOOKED_UP_ITEMS])
        for start in range(0, len(ids), MAX_LOOKED_UP_ITEMS)
    ]


def search_request(title_contains: str, *, count: int, page_token: str | None) -> catalogue_pb2.SearchItemsRequest:
    """Raise ValueError for a count that no page can have."""
    return catalogue_pb2.SearchItemsRequest(
        title_contains=title_contains, page_size=_count(count, MAX_PAGE_SIZE), page_token=page_token or ""
    )


def similar_request(
    item_ids: Iterable[str],
    *,
    count: int,
    filter: str,  # noqa: A002 - as in the contract
    allowed_item_ids: Iterable[str] | None,
    excluded_item_ids: Iterable[str],
) -> recommendation_pb2.SimilarItemsRequest:
    """Raise TypeError or ValueError that names the argument."""
    return recommendation_pb2.SimilarItemsRequest(
        item_ids=_ids("item_ids", item_ids),
        item_count=_count(count, MAX_ITEMS),
        filter=_filter(filter),
        allowed_item_ids=_allowed(allowed_item_ids),
        excluded_item_ids=_ids("excluded_item_ids", excluded_item_ids),
    )


def _watches(history: History) -> list[recommendation_pb2.Watch]:
    return [
        _watch(position, watch)
        for position, watch in enumerate(_listed("history", "item ids or of Watch objects", history))
    ]


def _watch(position: int, watch: object) -> recommendation_pb2.Watch:
    if isinstance(watch, str):
        return recommendation_pb2.Watch(item_id=watch)
    if not isinstance(watch, Watch):
        raise TypeError(f"history[{position}] is of type {type(watch).__name__}: an item id or a Watch is needed")
    if not isinstance(watch.item_id, str):
        raise TypeError(f"history[{position}].item_id is of type {type(watch.item_id).__name__}: str is needed")
    return recommendation_pb2.Watch(
        item_id=watch.item_id,
        weight=watch.weight,
        timestamp_seconds=seconds_of(f"history[{position}].time", watch.time),
    )


def _user_id(user_id: str | None) -> str:
    if user_id is None:
        return ""
    if not isinstance(user_id, str):
        raise TypeError(f"user_id is of type {type(user_id).__name__}: str is needed")
    if not user_id:
        # In the message it would be no user at all.
        raise ValueError("user_id is empty: None is for a request without a stored history")
    return user_id


def _filter(text: str) -> str:
    if not isinstance(text, str):
        raise TypeError(f"filter is of type {type(text).__name__}: str is needed")
    return text


def _allowed(ids: Iterable[str] | None) -> Sequence[str]:
    if ids is None:
        return ()
    listed = _ids("allowed_item_ids", ids)
    if not listed:
        # In the message it would allow every item: the opposite of what was said.
        raise ValueError("allowed_item_ids is empty: no item could be returned; None allows all")
    return listed


def _ids(name: str, ids: Iterable[str]) -> Sequence[str]:
    listed = _listed(name, "item ids", ids)
    for position, item_id in enumerate(listed):
        if not isinstance(item_id, str):
            raise TypeError(f"{name}[{position}] is of type {type(item_id).__name__}: str is needed")
    return listed


def _numbers(name: str, keys: str, numbers: Mapping[str, int] | None) -> list[tuple[str, int]]:
    if numbers is None:
        return []
    if not isinstance(numbers, Mapping):
        raise TypeError(f"{name} is {numbers!r}: a mapping of {keys} to whole numbers is needed")
    for key, number in numbers.items():
        if not isinstance(key, str):
            raise TypeError(f"{name} has the key {key!r}: str is needed")
        if not isinstance(number, int) or isinstance(number, bool) or not -(2**31) <= number < 2**31:
            raise TypeError(f"{name}[{key!r}] is {number!r}: a whole number is needed")
    return list(numbers.items())


def _listed(name: str, elements: str, given: Iterable[Element]) -> list[Element]:
    # A str is an iterable of its characters: one id would silently become many.
    if isinstance(given, str) or not isinstance(given, Iterable):
        raise TypeError(f"{name} is {given!r}: a list of {elements} is needed")
    return list(given)


def seconds_of(name: str, time: Time | None) -> int | None:
    """Return whole seconds since 1970, as in the training log. Raise ValueError that names the argument."""
    # Most times: a history has hundreds.
    if time is None or type(time) is int:
        return time
    if isinstance(time, datetime):
        if time.tzinfo is None:
            raise ValueError(f"{name} is {time}, without a time zone")
        time = time.timestamp()
    if not math.isfinite(time):
        raise ValueError(f"{name} is {time}: a finite number of seconds is needed")
    return math.floor(time)


def _count(count: int, maximum: int) -> int:
    if not 1 <= count <= maximum:
        raise ValueError(f"count is {count}: it has to be from 1 to {maximum}")
    return count
