"""Search in a collection of Milvus, by the calls of its protocol: its own client makes an object of every row it finds.

Shape legend: B queries, H width of a vector.
"""

import asyncio
import json
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate, pairwise
from typing import TypeAlias

import grpc
import numpy as np
import structlog
from numpy.typing import NDArray
from pymilvus.grpc_gen import common_pb2, milvus_pb2, milvus_pb2_grpc

from winnow.history import NO_ROWS, RaggedRows, Rows
from winnow.milvus.connection import MilvusAddress
from winnow.milvus.expressions import EngineFilter
from winnow.milvus.record import ROW_FIELD, VECTOR_FIELD, CollectionRecord, collection_name
from winnow.queries import Candidates, Restriction, RetrievalQuery
from winnow.rpc.errors import DeadlineError, UnavailableError

_log = structlog.get_logger(__name__)

# Milvus's own limit of the rows that a query returns.
MAX_ROWS = 16_384
# Queries are asked together whose numbers of rows differ little: nobody pays for the long history of another.
SMALLEST_LIMIT = 64
# An allow-list is asked in parts, so that no expression is longer than this.
ALLOWED_ROWS_AT_ONCE = 4_096
NO_FILTER = EngineFilter("")
UNRESTRICTED = Restriction()

_Found: TypeAlias = tuple[Rows, NDArray[np.float32]]
"""Rows and their scores, of one query."""
_NOTHING: _Found = NO_ROWS, np.empty(0, dtype=np.float32)

FilterOf = Callable[[str], EngineFilter]
"""The expression of a filter, given in canonical form."""


@dataclass(frozen=True, slots=True)
class _Search:
    """One call: some of the queries, by position, for the same number of rows under the same expression."""

    positions: Sequence[int]
    limit: int
    expression: str
    probe_count: int


class MilvusIndex:
    """Finds candidates in the collection of one release. Methods are called on the event loop of `channel`."""

    def __init__(
        self,
        channel: grpc.aio.Channel,
        address: MilvusAddress,
        record: CollectionRecord,
        item_count: int,
        retired: Rows = NO_ROWS,
    ) -> None:
        """Rows lie in [0, item_count); what is `retired` is not in the collection."""
        self._stub = milvus_pb2_grpc.MilvusServiceStub(channel)
        self._metadata = address.metadata()
        self._database = "" if address.database == "default" else address.database
        self._collection = collection_name(record.release_id)
        self._record = record
        self._item_count = item_count
        self._retired = retired

    async def search(
        self, user_BH: NDArray[np.float32], query: RetrievalQuery, filter_of: FilterOf, deadline: float
    ) -> Candidates:
        """Return the best candidates of B queries within their restrictions, as far as Milvus gives them.

        `deadline` is event-loop time. Raises UnavailableError where Milvus does not answer, or answers what cannot be,
        and DeadlineError. A filter that Milvus cannot apply leaves the queries that have it without candidates.
        """
        parts: list[list[_Found]] = [[] for _ in range(len(query))]
        searches = self._searches(query, filter_of)
        while searches:
            searches = await self._answer(searches, user_BH, query, parts, deadline)
        lists = [
            self._best(found, query.exclusions[position], int(query.counts[position]))
            for position, found in enumerate(parts)
        ]
        return Candidates(
            RaggedRows.from_lists([rows for rows, _ in lists]),
            np.concatenate([scores for _, scores in lists]) if lists else np.empty(0, dtype=np.float32),
        )

    async def _answer(
        self,
        searches: Sequence[_Search],
        user_BH: NDArray[np.float32],
        query: RetrievalQuery,
        parts: list[list[_Found]],
        deadline: float,
    ) -> list[_Search]:
        """Add what is found to the parts of each query. Return searches of all lists for those that found too little.

        A filter may match little in the lists that are nearest.
        """
        calls = [asyncio.ensure_future(self._call(search, user_BH, deadline)) for search in searches]
        try:
            answers = await asyncio.gather(*calls)
        finally:
            for call in calls:
                call.cancel()
        again = []
        for search, answer in zip(searches, answers, strict=True):
            short = []
            for position, found in zip(search.positions, answer, strict=True):
                too_few = len(found[0]) < search.limit and search.probe_count < self._record.list_count
                if too_few and len(self._best([found], query.exclusions[position], MAX_ROWS)[0]) < min(
                    int(query.counts[position]), search.limit
                ):
                    short.append(position)
                else:
                    parts[position].append(found)
            if short:
                again.append(replace(search, positions=short, probe_count=self._record.list_count))
        return again

    def _searches(self, query: RetrievalQuery, filter_of: FilterOf) -> list[_Search]:
        probe_count = self._record.probe_count
        together: defaultdict[tuple[str, int], list[int]] = defaultdict(list)
        searches = []
        wanted = query.counts + query.exclusions.lengths
        for position in range(len(query)):
            restriction = query.restrictions.get(position, UNRESTRICTED)
            expression = (filter_of(restriction.filter) if restriction.filter else NO_FILTER).expression
            if expression is None:
                continue
            if restriction.allowed is None:
                together[expression, self._limit(int(wanted[position]))].append(position)
                continue
            allowed = np.setdiff1d(restriction.allowed, query.exclusions[position])
            for start in range(0, len(allowed), ALLOWED_ROWS_AT_ONCE):
                rows = allowed[start : start + ALLOWED_ROWS_AT_ONCE].tolist()
                listed = f"{ROW_FIELD} in {rows}"
                limit = min(int(query.counts[position]), len(rows), MAX_ROWS)
                text = f"({expression}) && {listed}" if expression else listed
                # These rows may be in any of the lists.
                searches.append(_Search([position], limit, text, self._record.list_count))
        return [
            *searches,
            *(_Search(some, limit, text, probe_count) for (text, limit), some in together.items()),
        ]

    def _limit(self, wanted: int) -> int:
        """How many rows are asked for a query: at least as many as wanted, in steps."""
        return min(max(SMALLEST_LIMIT, 1 << (wanted - 1).bit_length()), MAX_ROWS, self._item_count)

    async def _call(self, search: _Search, user_BH: NDArray[np.float32], deadline: float) -> list[_Found]:
        """Return rows and scores of each query of a search."""
        seconds = deadline - asyncio.get_running_loop().time()
        if seconds <= 0:
            raise DeadlineError("the deadline passed before Milvus was asked")
        request = self._request(search, user_BH[search.positions])
        try:
            answer = await self._stub.Search(request, timeout=seconds, metadata=self._metadata)
        except grpc.aio.AioRpcError as error:
            if error.code() is grpc.StatusCode.DEADLINE_EXCEEDED:
                raise DeadlineError("Milvus has not answered in time") from None
            raise UnavailableError(f"Milvus does not answer: {error.code().name}") from None
        if answer.status.error_code or answer.status.code:
            if search.expression:
                # Nobody else of the batch has to suffer for it.
                _log.warning("Milvus refuses a filter", reason=answer.status.reason[:300])
                return [_NOTHING] * len(search.positions)
            _log.error("Milvus refuses a search", reason=answer.status.reason[:300])
            raise UnavailableError("Milvus refuses a search")
        return self._read(answer.results, len(search.positions))

    def _request(self, search: _Search, user_BH: NDArray[np.float32]) -> milvus_pb2.SearchRequest:
        values = [user_H.astype("<f4", copy=False).tobytes() for user_H in user_BH]
        placeholder = common_pb2.PlaceholderValue(tag="$0", type=common_pb2.PlaceholderType.FloatVector, values=values)
        parameters = {
            "anns_field": VECTOR_FIELD,
            "topk": str(search.limit),
            "metric_type": "IP",
            "params": json.dumps({"nprobe": search.probe_count}),
            "round_decimal": "-1",
        }
        return milvus_pb2.SearchRequest(
            db_name=self._database,
            collection_name=self._collection,
            dsl=search.expression,
            dsl_type=common_pb2.DslType.BoolExprV1,
            placeholder_group=common_pb2.PlaceholderGroup(placeholders=[placeholder]).SerializeToString(),
            nq=len(values),
            search_params=[common_pb2.KeyValuePair(key=key, value=value) for key, value in parameters.items()],
            # Nothing is written to a collection that is searched: there is nothing newer to wait for.
            consistency_level=common_pb2.ConsistencyLevel.Eventually,
            guarantee_timestamp=1,
        )

    def _read(self, results: "milvus_pb2.schema__pb2.SearchResultData", query_count: int) -> list[_Found]:
        """Check what Milvus returns. Raises UnavailableError for rows that do not exist, and numbers that are none."""
        rows = np.array(results.ids.int_id.data, dtype=np.int64)
        scores = np.array(results.scores, dtype=np.float32)
        lengths = list(results.topks) or [0] * query_count
        if len(lengths) != query_count or sum(lengths) != len(rows) or len(rows) != len(scores):
            raise UnavailableError(f"Milvus returns {len(rows)} rows and {len(scores)} scores in {len(lengths)} lists "
                                   f"for {query_count} queries")  # fmt: skip
        if len(rows) and (rows.min() < 0 or rows.max() >= self._item_count):
            raise UnavailableError(f"Milvus returns a row that is none of {self._item_count} items")
        if not np.isfinite(scores).all():
            raise UnavailableError("Milvus returns a score that is not finite")
        ends = accumulate(lengths, initial=0)
        return [(rows[start:end].astype(np.int32), scores[start:end]) for start, end in pairwise(ends)]

    def _best(self, parts: list[_Found], excluded: Rows, count: int) -> _Found:
        """Join the parts of a query, without what is excluded, retired or there twice, and keep the best."""
        if not parts:
            return _NOTHING
        rows, scores = parts[0] if len(parts) == 1 else map(np.concatenate, zip(*parts, strict=True))
        order = np.argsort(-scores, kind="stable")
        rows, scores = rows[order], scores[order]
        kept = np.zeros(len(rows), dtype=np.bool_)
        kept[np.unique(rows, return_index=True)[1]] = True
        for left_out in (excluded, self._retired):
            if len(left_out):
                kept &= ~np.isin(rows, left_out)
        return rows[kept][:count], scores[kept][:count]
