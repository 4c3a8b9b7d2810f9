"""Similar items and explanations while a stage is away: UNAVAILABLE, never an answer from half of the chain."""

import math
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.faults.cluster import STAGES, Cluster
from tests.faults.conftest import load_while
from tests.faults.ledger import COUNT, Ask, Judge, Ledger, Load, Query, Response, Stub, recommendation_of
from tests.reference import DirectRecommender
from tests.releases import ITEM_COUNT, item_id
from winnow.history import WatchHistories
from winnow.v1 import recommendation_pb2

RATE = 30.0
WATCHES = 10
TOLERANCE = 1e-4


def similar(stub: Stub, query: Query, timeout_seconds: float) -> Any:
    request = recommendation_pb2.SimilarItemsRequest(
        item_ids=query.history, excluded_item_ids=query.excluded, filter=query.filter, item_count=COUNT
    )
    return stub.SimilarItems(request, timeout=timeout_seconds)


def explained_row(query: Query) -> int:
    """Any item would do: often one that is no candidate."""
    return 37 * len(query.history) % ITEM_COUNT


def explain(stub: Stub, query: Query, timeout_seconds: float) -> Any:
    request = recommendation_pb2.ExplainItemRequest(
        item_id=item_id(explained_row(query)), request=recommendation_of(query), watch_count=WATCHES
    )
    return stub.ExplainItem(request, timeout=timeout_seconds)


class OtherJudge(Judge):
    """Knows the logits and scores of the releases for its queries."""

    def __init__(self, releases: Path, release_ids: Sequence[str], item_ids: Sequence[str]) -> None:
        super().__init__(releases, release_ids, item_ids)
        self._logits, self._scores = {}, {}
        for release_id in release_ids:
            direct = DirectRecommender(releases, release_id)
            for query in self.queries:
                rows, _ = direct.vocabulary.rows(query.history)
                watched, key = WatchHistories.of_one(rows), (release_id, query)
                self._logits[key] = direct.logits(watched).numpy()
                self._scores[key] = float(direct.scores(watched, [explained_row(query)])[0])

    def answer_violations(self, query: Query, response: Response) -> list[str]:
        logits = self._logits[response.release_id, query]
        if isinstance(response, recommendation_pb2.SimilarItemsResponse):
            possible = [
                row
                for row in np.argsort(-logits).tolist()
                if query.matches(row) and item_id(row) not in {*query.history, *query.excluded}
            ]
            right = [item.item_id for item in response.items] == list(map(item_id, possible[:COUNT]))
            return [] if right else ["not what the release gives"]
        assert isinstance(response, recommendation_pb2.ExplainItemResponse)
        row, found = explained_row(query), []
        if not math.isclose(response.retrieval.score, logits[row], abs_tol=TOLERANCE):
            found.append("not the logit that the release gives")
        if not math.isclose(response.ranking.score, self._scores[response.release_id, query], abs_tol=TOLERANCE):
            found.append("not the score that the release gives")
        if response.retrieval.HasField("place") is bool(response.retrieval.absence_reasons):
            found.append("neither a place nor a reason, or both")
        if len(response.contributions) != min(WATCHES, len(query.history)):
            found.append(f"{len(response.contributions)} contributions")
        return found


@pytest.fixture(scope="module")
def other_judge(two_releases: tuple[Path, list[str]]) -> OtherJudge:
    return OtherJudge(*two_releases, [item_id(row) for row in range(ITEM_COUNT)])


def away_and_back(cluster: Cluster, stage: str) -> None:
    for replica in cluster.replicas[stage]:
        replica.kill()
    time.sleep(1.5)
    for replica in cluster.replicas[stage]:
        replica.start()
    for replica in cluster.replicas[stage]:
        replica.wait_until_healthy()


@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.parametrize("ask", [similar, explain])
def test_a_stage_away_and_back(
    cluster: Cluster, other_judge: OtherJudge, ledger: Ledger, load_seconds: float, ask: Ask, stage: str
) -> None:
    load = Load(cluster.gateway.target, other_judge, ledger, rate=RATE, ask=ask)
    load_while(load, load_seconds, lambda: away_and_back(cluster, stage))
    assert ledger.violations == []
    assert ledger.codes.keys() <= {"OK", "UNAVAILABLE"}
    # Similar items need the candidate stage only.
    assert bool(ledger.codes["UNAVAILABLE"]) is (ask is explain or stage == "candidate_service")
    last = ledger.since(ledger.calls[-1].finished_at - 0.5)
    assert last.codes.keys() == {"OK"}
