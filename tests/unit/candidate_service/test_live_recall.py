"""Live recall: what is sampled, what is compared, and that it neither queues nor fails requests."""

import threading
from collections.abc import Mapping, Sequence

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from structlog.testing import capture_logs

from candidate_service.live_recall import LiveRecall
from candidate_service.retriever import Retriever
from tests.releases import attributes_of
from winnow.catalogue.filters.compiler import compile_canonical
from winnow.history import RaggedRows, WatchHistories
from winnow.index.approximate import ApproximateIndex
from winnow.index.exact import ExactIndex
from winnow.networks.candidate import DeepCandidateGenerationModel
from winnow.queries import Candidates, Restriction, RetrievalQuery
from winnow.serving.metrics import Metrics

ITEM_COUNT = 4000
FILTER = "year >= 1995"
RETIRED = np.arange(0, ITEM_COUNT, 17, dtype=np.int32)


@pytest.fixture(scope="module")
def network() -> DeepCandidateGenerationModel:
    return DeepCandidateGenerationModel(ITEM_COUNT, 12, 8, 2, 0).eval().requires_grad_(requires_grad=False)


@pytest.fixture(scope="module")
def poor(network: DeepCandidateGenerationModel) -> Retriever:
    """One of four lists is scanned."""
    built = ApproximateIndex.build(network.item_vectors_IH, list_count=4)
    built._lists.remove(RETIRED)
    index = ApproximateIndex(built._lists, network.item_vectors_IH, probe_count=1, retired=RETIRED)
    return Retriever(network, index, torch.device("cpu"), attributes_of(ITEM_COUNT), retired=RETIRED)


@pytest.fixture
def metrics() -> Metrics:
    return Metrics()


def query_of(
    histories: Sequence[Sequence[int]], count: int = 200, restrictions: Mapping[int, Restriction] | None = None
) -> RetrievalQuery:
    watched = WatchHistories.from_lists(histories)
    excluded = RaggedRows.from_lists(
        [list(range(100 * position, 100 * position + 90)) for position in range(len(watched))]
    )
    return RetrievalQuery(
        histories=watched,
        counts=np.full(len(watched), count, dtype=np.int32),
        exclusions=excluded,
        restrictions=restrictions or {},
    )


def finish(live: LiveRecall) -> None:
    live._thread.shutdown(wait=True)


def value(metrics: Metrics, name: str) -> float:
    found = metrics.registry.get_sample_value(name)
    assert found is not None
    return found


def plain_recall(network: DeepCandidateGenerationModel, query: RetrievalQuery, found: NDArray[np.int32]) -> float:
    """The share of the best 200 by one matrix product, filter, exclusions and retired items left out by hand."""
    with torch.inference_mode():
        scores = (network.user_vectors(network.pack(query.histories)) @ network.item_vectors_IH.T).numpy()[0]
    scores[RETIRED] = -np.inf
    scores[query.exclusions[0]] = -np.inf
    if 0 in query.restrictions:
        scores[~compile_canonical(query.restrictions[0].filter, attributes_of(ITEM_COUNT)).mask()] = -np.inf
    best = np.argsort(-scores)[:200]
    assert np.isfinite(scores[best]).all()
    return len(set(best.tolist()) & set(found[:200].tolist())) / 200


@pytest.mark.parametrize("restriction", [None, Restriction(filter=FILTER)])
@pytest.mark.parametrize("count", [200, 300])
def test_a_poor_index_has_the_recall_of_a_plain_calculation(
    network: DeepCandidateGenerationModel,
    poor: Retriever,
    metrics: Metrics,
    restriction: Restriction | None,
    count: int,
) -> None:
    query = query_of([[5, 900, 33]], count, None if restriction is None else {0: restriction})
    [answer] = poor.compute([query])
    live = LiveRecall(1.0, metrics)
    live.consider(poor, query, answer)
    finish(live)
    expected = plain_recall(network, query, answer.rows[0])
    assert 0 < expected < 1
    assert value(metrics, "winnow_live_recall_at_200_count") == 1
    assert value(metrics, "winnow_live_recall_at_200_sum") == pytest.approx(expected)


def test_one_query_of_a_call_is_searched_and_it_is_compared_with_its_own_answer(
    network: DeepCandidateGenerationModel, poor: Retriever, metrics: Metrics
) -> None:
    restrictions = {1: Restriction(filter=FILTER), 2: Restriction(allowed=np.arange(500, dtype=np.int32))}
    query = query_of([[5, 900, 33], [17, 2], [8], [3999]], restrictions=restrictions)
    [answer] = poor.compute([query])
    live = LiveRecall(1.0, metrics, np.random.default_rng(1))
    live.consider(poor, query, answer)
    finish(live)
    searched = value(metrics, "winnow_live_recall_at_200_sum")
    recalls = [plain_recall(network, query.only(position), answer.rows[position]) for position in (0, 1, 3)]
    assert any(searched == pytest.approx(recall) for recall in recalls)
    assert value(metrics, "winnow_live_recall_at_200_count") == 1
    assert value(metrics, "winnow_live_recall_dropped_total") == 2


def test_what_is_sampled_while_a_search_is_under_way_is_dropped(poor: Retriever, metrics: Metrics) -> None:
    query = query_of([[5, 900, 33]])
    [answer] = poor.compute([query])
    may_go_on = threading.Event()

    class Slow:
        exact = False

        def retrieve_exactly(self, query: RetrievalQuery) -> Candidates:
            assert may_go_on.wait(60)
            return poor.retrieve_exactly(query)

    live = LiveRecall(1.0, metrics)
    for _ in range(3):
        live.consider(Slow(), query, answer)
    may_go_on.set()
    finish(live)
    assert value(metrics, "winnow_live_recall_at_200_count") == 1
    assert value(metrics, "winnow_live_recall_dropped_total") == 2


def test_what_has_no_recall_at_200_is_not_sampled(
    network: DeepCandidateGenerationModel, poor: Retriever, metrics: Metrics
) -> None:
    exact = Retriever(network, ExactIndex(network.item_vectors_IH), torch.device("cpu"), attributes_of(ITEM_COUNT))
    listed = {0: Restriction(allowed=np.arange(500, dtype=np.int32))}
    live = LiveRecall(1.0, metrics)
    for retriever, query in [
        (exact, query_of([[5]])),
        (poor, query_of([[5]], count=199)),
        (poor, query_of([[5]], restrictions=listed)),
    ]:
        live.consider(retriever, query, retriever.compute([query])[0])
    finish(live)
    assert value(metrics, "winnow_live_recall_at_200_count") == 0
    assert value(metrics, "winnow_live_recall_dropped_total") == 0


def test_the_share_is_a_share_of_the_requests(poor: Retriever, metrics: Metrics) -> None:
    query = query_of([[5, 900, 33]])
    [answer] = poor.compute([query])
    live = LiveRecall(0.25, metrics, np.random.default_rng(0))
    for _ in range(400):
        live.consider(poor, query, answer)
    finish(live)
    sampled = value(metrics, "winnow_live_recall_at_200_count") + value(metrics, "winnow_live_recall_dropped_total")
    assert 70 <= sampled <= 130


def test_a_search_that_fails_is_logged_and_later_ones_are_made(poor: Retriever, metrics: Metrics) -> None:
    query = query_of([[5, 900, 33]])
    [answer] = poor.compute([query])

    class Broken:
        exact = False

        def retrieve_exactly(self, query: RetrievalQuery) -> Candidates:
            raise RuntimeError("out of memory")

    live = LiveRecall(1.0, metrics)
    with capture_logs() as logs:
        live.consider(Broken(), query, answer)
        live._thread.submit(int).result()
    live.consider(poor, query, answer)
    finish(live)
    assert value(metrics, "winnow_live_recall_at_200_count") == 1
    assert [event["event"] for event in logs] == ["live recall could not be measured"]
