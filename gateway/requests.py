"""Requests at the edge: messages with item ids -> checked queries with rows."""

import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from gateway.catalogue import Catalogue
from gateway.settings import GatewaySettings
from winnow.contexts import RequestContexts
from winnow.history import RaggedRows, Rows, WatchHistories
from winnow.rpc.violations import Violation
from winnow.serving.errors import InvalidRequestError
from winnow.v1 import catalogue_pb2, recommendation_pb2

MAX_ID_BYTES = 512
DEFAULT_ITEMS, MAX_ITEMS = 20, 100
DEFAULT_CANDIDATES, MAX_CANDIDATES = 200, 1000
MAX_LOOKED_UP_ITEMS = 1000
# The first second of the year 10000, as in training. Milliseconds since 1970 lie beyond it, from April 1978 on.
TIMESTAMP_LIMIT_SECONDS = 253_402_300_800
_TIME_NEEDED = "seconds since 1970, before the year 10000, are needed"

_HistoryRequest = (
    recommendation_pb2.RecommendItemsRequest
    | recommendation_pb2.RetrieveItemsRequest
    | recommendation_pb2.RankItemsRequest
)
_RankedRequest = recommendation_pb2.RecommendItemsRequest | recommendation_pb2.RankItemsRequest


@dataclass(kw_only=True, eq=False, slots=True)
class Query:
    """A request that can be answered. Rows are int32."""

    history: WatchHistories
    """One history."""
    count: int
    """How many items to answer with, defaults and maxima applied."""
    excluded: Rows
    """Rows that must not be in the answer, the watched ones among them unless they were asked for."""
    unknown_history_count: int
    unknown_excluded_count: int
    require_ranked: bool = False
    context: RequestContexts | None = None
    """Of one request; None where the release does not read it."""


@dataclass(kw_only=True, eq=False, slots=True)
class RankQuery:
    """A RankItems request that can be answered."""

    history: WatchHistories
    """One history."""
    rows: Rows
    """The rows to score, no duplicates."""
    unknown_history_count: int
    unknown_item_count: int
    context: RequestContexts | None = None
    """Of one request; None where the release does not read it."""


class RequestReader:
    """Checks requests against the gateway's limits and turns ids into rows.

    Every method raises InvalidRequestError that names all fields that are wrong.
    """

    def __init__(self, settings: GatewaySettings) -> None:
        self._settings = settings

    def recommend(self, request: recommendation_pb2.RecommendItemsRequest, catalogue: Catalogue) -> Query:
        """Read a RecommendItems request."""
        return self._query(
            request,
            catalogue,
            request.count or DEFAULT_ITEMS,
            MAX_ITEMS,
            require_ranked=request.require_ranked,
            violations=_context_violations(request, self._settings.max_history_items),
            context=_context(request, catalogue),
        )

    def retrieve(self, request: recommendation_pb2.RetrieveItemsRequest, catalogue: Catalogue) -> Query:
        """Read a RetrieveItems request."""
        return self._query(request, catalogue, request.count or DEFAULT_CANDIDATES, MAX_CANDIDATES)

    def rank(self, request: recommendation_pb2.RankItemsRequest, catalogue: Catalogue) -> RankQuery:
        """Read a RankItems request."""
        watched_ids, item_ids = list(request.history), list(request.item_ids)
        violations = _history_violations(request, watched_ids, self._settings.max_history_items)
        violations += _id_violations("item_ids", item_ids, self._settings.max_ranked_items)
        violations += _context_violations(request, self._settings.max_history_items)
        if not item_ids:
            violations.append(Violation("item_ids", "is empty: there is nothing to score"))
        _refuse(violations)
        history, unknown_history_count = _history(request, watched_ids, catalogue)
        rows, unknown_item_count = catalogue.vocabulary.rows(item_ids)
        return RankQuery(
            history=history,
            rows=_without_duplicates(rows),
            unknown_history_count=unknown_history_count,
            unknown_item_count=unknown_item_count,
            context=_context(request, catalogue),
        )

    def get_items(self, request: catalogue_pb2.GetItemsRequest) -> Sequence[str]:
        """Read a GetItems request."""
        _refuse(_id_violations("item_ids", request.item_ids, MAX_LOOKED_UP_ITEMS))
        return request.item_ids

    def search_items(self, request: catalogue_pb2.SearchItemsRequest) -> tuple[str, int]:
        """Read a SearchItems request: the text and how many items."""
        violations = _count_violations(request.count)
        if not 1 <= len(request.title_contains.encode()) <= MAX_ID_BYTES:
            violations.append(Violation("title_contains", f"has to be 1 to {MAX_ID_BYTES} bytes long"))
        _refuse(violations)
        return request.title_contains, min(request.count or DEFAULT_ITEMS, MAX_ITEMS)

    def _query(
        self,
        request: recommendation_pb2.RecommendItemsRequest | recommendation_pb2.RetrieveItemsRequest,
        catalogue: Catalogue,
        count: int,
        max_count: int,
        *,
        require_ranked: bool = False,
        violations: Sequence[Violation] = (),
        context: RequestContexts | None = None,
    ) -> Query:
        # Every pass over a repeated field makes its strings anew: they are read once.
        watched_ids, excluded_ids = list(request.history), list(request.excluded_item_ids)
        violations = [*violations, *_history_violations(request, watched_ids, self._settings.max_history_items)]
        violations += _id_violations("excluded_item_ids", excluded_ids, self._settings.max_excluded_items)
        _refuse(violations + _count_violations(count))
        history, unknown_history_count = _history(request, watched_ids, catalogue)
        excluded, unknown_excluded_count = history.rows[:0], 0
        if excluded_ids:
            excluded, unknown_excluded_count = catalogue.vocabulary.rows(excluded_ids)
        return Query(
            history=history,
            count=min(count, max_count),
            excluded=excluded if request.include_watched else np.concatenate([excluded, history.rows]),
            unknown_history_count=unknown_history_count,
            unknown_excluded_count=unknown_excluded_count,
            require_ranked=require_ranked,
            context=context,
        )


def _context(request: _RankedRequest, catalogue: Catalogue) -> RequestContexts | None:
    if not catalogue.ranking_reads_contexts:
        return None
    now = request.request_time if request.HasField("request_time") else int(time.time())
    unclicked, _ = catalogue.vocabulary.rows(request.unclicked_item_ids)
    return RequestContexts(np.array([now]), RaggedRows(unclicked, np.array([0, len(unclicked)])))


def _context_violations(request: _RankedRequest, max_count: int) -> list[Violation]:
    violations = _id_violations("unclicked_item_ids", request.unclicked_item_ids, max_count)
    if not -TIMESTAMP_LIMIT_SECONDS <= request.request_time < TIMESTAMP_LIMIT_SECONDS:
        violations.append(Violation("request_time", f"is {request.request_time}: {_TIME_NEEDED}"))
    return violations


def _history(request: _HistoryRequest, watched_ids: Sequence[str], catalogue: Catalogue) -> tuple[WatchHistories, int]:
    """Return the known watches of a request as one history, and how many are unknown and left out."""
    rows, unknown_count = catalogue.vocabulary.rows(watched_ids)
    weights = np.array(request.history_weights, dtype=np.float32) if request.history_weights else None
    timestamps = np.array(request.history_timestamps, dtype=np.int64) if request.history_timestamps else None
    if unknown_count and (weights is not None or timestamps is not None):
        known = np.array([item_id in catalogue.vocabulary for item_id in watched_ids])
        weights = None if weights is None else weights[known]
        timestamps = None if timestamps is None else timestamps[known]
    return WatchHistories.of_one(rows, weights, timestamps), unknown_count


def _history_violations(request: _HistoryRequest, watched_ids: Sequence[str], max_count: int) -> list[Violation]:
    violations = _id_violations("history", watched_ids, max_count)
    for field, values in (
        ("history_weights", request.history_weights),
        ("history_timestamps", request.history_timestamps),
    ):
        if values and len(values) != len(watched_ids):
            violations.append(Violation(field, f"has {len(values)} entries for {len(watched_ids)} watches"))
    if not (request.history_weights or request.history_timestamps):
        return violations
    weights = np.array(request.history_weights, dtype=np.float32)
    for position in np.flatnonzero(~(np.isfinite(weights) & (weights >= 0))):
        violations.append(
            Violation(f"history_weights[{position}]", f"is {weights[position]}: a number of at least 0 is needed")
        )
    timestamps = np.array(request.history_timestamps, dtype=np.int64)
    for position in np.flatnonzero((timestamps < -TIMESTAMP_LIMIT_SECONDS) | (timestamps >= TIMESTAMP_LIMIT_SECONDS)):
        violations.append(
            Violation(
                f"history_timestamps[{position}]",
                f"is {timestamps[position]}: {_TIME_NEEDED}",
            )
        )
    return violations


def _id_violations(field: str, ids: Sequence[str], max_count: int) -> list[Violation]:
    if not ids:
        return []
    if len(ids) > max_count:
        return [Violation(field, f"has {len(ids)} ids: at most {max_count}")]
    # UTF-8 has at most 4 bytes a character: nearly every request ends here, without a loop over its ids.
    lengths = list(map(len, ids))
    if 0 not in lengths and max(lengths) <= MAX_ID_BYTES // 4:
        return []
    violations = []
    for position, item_id in enumerate(ids):
        if not item_id:
            violations.append(Violation(f"{field}[{position}]", "is empty"))
        elif len(item_id.encode()) > MAX_ID_BYTES:
            violations.append(
                Violation(f"{field}[{position}]", f"is {len(item_id.encode())} bytes long: at most {MAX_ID_BYTES}")
            )
    return violations


def _count_violations(count: int) -> list[Violation]:
    return [Violation("count", f"is {count}: it cannot be negative")] if count < 0 else []


def _refuse(violations: list[Violation]) -> None:
    if violations:
        raise InvalidRequestError(violations)


def _without_duplicates(rows: Rows) -> Rows:
    _, first = np.unique(rows, return_index=True)
    return rows[np.sort(first)]
