"""Stages take the largest calls that a gateway makes."""

import numpy as np

from gateway.settings import GatewaySettings
from winnow.catalogue.filters.parser import REQUEST_LIMITS
from winnow.contexts import RequestContexts
from winnow.history import RaggedRows, WatchHistories
from winnow.queries import RankingQuery, Restriction, RetrievalQuery
from winnow.serving.settings import StageSettings
from winnow.serving.wire import pack_ranking_query, pack_retrieval_query

GATEWAY = GatewaySettings()
QUERY_COUNT = GATEWAY.max_batch_queries
RELEASE_ID = "r" * 100


def lists(length: int) -> RaggedRows:
    rows = np.full(QUERY_COUNT * length, 10**9, dtype=np.int32)
    return RaggedRows.from_lengths(rows, np.full(QUERY_COUNT, length))


def histories() -> WatchHistories:
    watched = lists(GATEWAY.max_history_items)
    count = len(watched.rows)
    return WatchHistories.from_lengths(
        watched.rows, watched.lengths, np.ones(count, dtype=np.float32), np.ones(count, dtype=np.int64)
    )


def test_retrieval() -> None:
    allowed = np.arange(GATEWAY.max_allowed_items, dtype=np.int32)
    query = RetrievalQuery(
        histories=histories(),
        counts=np.full(QUERY_COUNT, GATEWAY.candidate_count, dtype=np.int32),
        exclusions=lists(GATEWAY.max_history_items + GATEWAY.max_excluded_items),
        restrictions={
            at: Restriction(filter=chr(0x10000 + at) * REQUEST_LIMITS.characters, allowed=allowed)
            for at in range(QUERY_COUNT)
        },
    )
    assert len(pack_retrieval_query(query, RELEASE_ID).SerializeToString()) <= StageSettings().max_request_bytes


def test_ranking() -> None:
    query = RankingQuery(
        histories=histories(),
        candidates=lists(GATEWAY.max_ranked_items),
        contexts=RequestContexts(np.ones(QUERY_COUNT, dtype=np.int64), lists(GATEWAY.max_history_items)),
    )
    assert len(pack_ranking_query(query, RELEASE_ID).SerializeToString()) <= StageSettings().max_request_bytes
