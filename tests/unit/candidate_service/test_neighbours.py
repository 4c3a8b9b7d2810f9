"""Candidates of a release with neighbour tables are those that the plain scores of all items give."""

import asyncio
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file

from candidate_service.retriever import Retriever
from tests.releases import FIRST_YEAR, YEARS, attributes_of, fill_randomly, reseal, write_random_release
from winnow.history import NO_ROWS, RaggedRows, WatchHistories
from winnow.index.approximate import ApproximateIndex
from winnow.index.exact import ExactIndex
from winnow.networks import neighbours as module
from winnow.networks.candidate import DeepCandidateGenerationModel
from winnow.networks.options import CandidateOptions, NeighbourOptions
from winnow.queries import Candidates, Restriction, RetrievalQuery
from winnow.release.golden_filters import GoldenMismatchError
from winnow.release.models.loader import load_candidate_network
from winnow.release.reader import ReleaseError, open_release

ITEM_COUNT = 60
CPU = torch.device("cpu")
TABLES = (
    NeighbourOptions(neighbour_count=7, latest_count=3, recency_decay=0.5),
    NeighbourOptions(neighbour_count=4, latest_count=100, recency_decay=1.0, scale=0.3),
)
RETIRED = np.array([3, 4, 30], dtype=np.int32)
FILTER = "year >= 2000"
rows = st.integers(0, ITEM_COUNT - 1)


def network_with(tables: Sequence[NeighbourOptions], item_count: int = ITEM_COUNT) -> DeepCandidateGenerationModel:
    network = DeepCandidateGenerationModel(item_count, 6, 4, 2, 1, CandidateOptions(neighbours=tuple(tables)))
    rng = np.random.default_rng(2)
    for table in network.neighbours.tables:
        fill_randomly(table, rng)
    return network.eval().requires_grad_(requires_grad=False)


def plain(
    network: DeepCandidateGenerationModel, query: RetrievalQuery, retired: NDArray[np.int32]
) -> list[list[float]]:
    """The scores of the best items of each query, best first, from those of all items."""
    found = []
    for position in range(len(query)):
        [scores] = network.scores(network.pack(query.histories.slice(position, position + 1))).numpy().copy()
        restriction = query.restrictions.get(position, Restriction())
        possible = np.ones(network.n_items, dtype=np.bool_)
        if restriction.allowed is not None:
            possible &= np.isin(np.arange(network.n_items), restriction.allowed)
        if restriction.filter:
            possible &= FIRST_YEAR + np.arange(network.n_items) % YEARS >= 2000
        possible[query.exclusions[position]] = False
        possible[retired] = False
        found.append(np.sort(scores[possible])[::-1][: query.counts[position]].tolist())
    return found


def check(
    network: DeepCandidateGenerationModel, retriever: Retriever, query: RetrievalQuery, retired: NDArray[np.int32]
) -> None:
    asyncio.run(retriever.prepare(query))
    found = retriever.retrieve(query)
    expected = plain(network, query, retired)
    assert found.rows.lengths.tolist() == [len(scores) for scores in expected]
    np.testing.assert_allclose(found.scores, [score for scores in expected for score in scores], rtol=1e-5, atol=1e-5)
    # Each score is that of its own item, and no item is there twice.
    for position, one in enumerate(found.split([1] * len(query))):
        [scores] = network.scores(network.pack(query.histories.slice(position, position + 1))).numpy()
        np.testing.assert_allclose(one.scores, scores[one.rows.rows], rtol=1e-5, atol=1e-5)
        assert len(set(one.rows.rows.tolist())) == len(one.rows.rows)


@st.composite
def queries(draw: st.DrawFn) -> RetrievalQuery:
    histories = draw(st.lists(st.lists(rows, max_size=8), min_size=1, max_size=4))
    restrictions = {}
    for position in range(len(histories)):
        allowed = draw(st.none() | st.lists(rows, max_size=20))
        restriction = Restriction(
            filter=draw(st.sampled_from(["", FILTER])),
            allowed=None if allowed is None else np.array(allowed, dtype=np.int32),
        )
        if restriction:
            restrictions[position] = restriction
    return RetrievalQuery(
        histories=WatchHistories.from_lists(histories),
        counts=np.array([draw(st.integers(1, ITEM_COUNT + 3)) for _ in histories], dtype=np.int32),
        exclusions=RaggedRows.from_lists([draw(st.lists(rows, max_size=10)) for _ in histories]),
        restrictions=restrictions,
    )


@settings(deadline=None, max_examples=40)
@given(query=queries(), table_count=st.integers(1, 2), some_are_retired=st.booleans(), dense=st.booleans())
def test_candidates_are_those_of_the_plain_scores(
    query: RetrievalQuery, table_count: int, some_are_retired: bool, dense: bool
) -> None:
    network, retired = network_with(TABLES[:table_count]), RETIRED if some_are_retired else NO_ROWS
    index = ExactIndex(network.item_vectors_IH, retired)
    retriever = Retriever(network, index, CPU, attributes_of(ITEM_COUNT), retired=retired)
    with pytest.MonkeyPatch.context() as patched:
        if not dense:
            patched.setattr(module, "LARGEST_DENSE", 0)
            patched.setattr(module, "NUMBERS_AT_ONCE", 20)
        check(network, retriever, query, retired)


def test_an_approximate_index_misses_no_item_that_is_raised() -> None:
    network = network_with(TABLES, item_count=4000)
    index = ApproximateIndex.build(network.item_vectors_IH, list_count=8)
    index.probe_count = 2
    retriever = Retriever(network, index, CPU, attributes_of(4000))
    rng = np.random.default_rng(0)
    histories = WatchHistories.from_lists([rng.integers(0, 4000, length).tolist() for length in (1, 5, 30)])
    query = RetrievalQuery(
        histories=histories,
        counts=np.array([200, 10, 300], dtype=np.int32),
        exclusions=histories,
        restrictions={1: Restriction(filter=FILTER)},
    )
    asyncio.run(retriever.prepare(query))
    found, exact = retriever.retrieve(query), retriever.retrieve_exactly(query)
    raised = network.neighbours.item_scores(network.pack(histories)).lists(len(query))
    scores_BI = network.scores(network.pack(histories)).numpy()
    missed = 0
    for position in range(len(query)):
        belong = np.intersect1d(exact.rows[position], raised.rows[position])
        assert len(belong)
        assert np.isin(belong, found.rows[position]).all()
        missed += len(np.setdiff1d(exact.rows[position], found.rows[position]))
        scores = found.split([1] * len(query))[position].scores
        np.testing.assert_allclose(scores, scores_BI[position][found.rows[position]], rtol=1e-5, atol=1e-5)
        assert (np.diff(scores) <= 0).all()
    assert missed


def test_every_call_of_a_batch_gets_the_candidates_that_it_gets_alone() -> None:
    network = network_with(TABLES)
    retriever = Retriever(network, ExactIndex(network.item_vectors_IH), CPU, attributes_of(ITEM_COUNT))
    calls = [
        RetrievalQuery(histories=one, counts=np.full(len(one), 12, dtype=np.int32), exclusions=one)
        for one in (WatchHistories.from_lists([[1, 2, 2]]), WatchHistories.from_lists([[3], [], [4, 5, 1, 9]]))
    ]
    alone = Candidates.concatenate([retriever.retrieve(query) for query in calls])
    together = Candidates.concatenate(retriever.compute(calls))
    assert together.rows.rows.tolist() == alone.rows.rows.tolist()
    np.testing.assert_allclose(together.scores, alone.scores, rtol=1e-5)


@pytest.fixture
def release(tmp_path: Path) -> Path:
    return tmp_path / write_random_release(tmp_path, neighbours=TABLES)


def test_a_release_answers_its_golden_requests(release: Path) -> None:
    opened = open_release(release)
    golden = opened.golden_requests()
    retriever = Retriever.from_release(opened, CPU)
    retriever.check_golden(golden)
    network = load_candidate_network(opened, CPU)
    count = len(golden.histories)
    query = RetrievalQuery(histories=golden.histories, counts=np.full(count, 50, np.int32), exclusions=golden.histories)
    expected = [score for scores in plain(network, query, NO_ROWS) for score in scores]
    np.testing.assert_allclose(golden.candidate_scores, expected, rtol=1e-5, atol=1e-5)
    network.neighbours.tables[0].weight.mul_(1.5)
    with pytest.raises(GoldenMismatchError, match="candidate network"):
        Retriever(network, ExactIndex(network.item_vectors_IH), CPU, opened.attributes()).check_golden(golden)


@pytest.mark.parametrize(
    ("name", "value", "reason"),
    [
        ("rows", -1, r"neighbours are rows -1 to \d+: rows lie in \[0, 300\)"),
        ("rows", 300, r"neighbours are rows 0 to 300: rows lie in \[0, 300\)"),
        ("values", -0.5, "a value or the weight of neighbours is negative"),
        ("values", torch.inf, "holds a value that is not finite"),
    ],
)
def test_a_corrupt_value_is_refused(release: Path, name: str, value: float, reason: str) -> None:
    weights = load_file(release / "candidate_network.safetensors")
    weights[f"neighbours.1.{name}"][5, 2] = value
    save_file(weights, release / "candidate_network.safetensors")
    with pytest.raises(ReleaseError, match=reason):
        load_candidate_network(open_release(reseal(release)), CPU)


@pytest.mark.parametrize(
    ("name", "change", "reason"),
    [
        ("rows", lambda table: table.float(), r"neighbours\.1\.rows is of torch.float32, not of torch.int32"),
        ("values", lambda table: table.double(), r"neighbours\.1\.values is of torch.float64, not of torch.float32"),
        ("values", lambda table: table.int(), r"neighbours\.1\.values is of torch.int32, not of torch.float32"),
        ("weight", lambda table: -table - 1, "a value or the weight of neighbours is negative"),
        ("weight", lambda table: table * torch.nan, r"neighbours\.1\.weight holds a value that is not finite"),
        ("rows", lambda table: table[:-1].clone(), "size mismatch for neighbours.1.rows"),
        ("values", lambda table: table[:, :-1].clone(), "size mismatch for neighbours.1.values"),
        ("values", lambda table: torch.cat([table, table], dim=1), "size mismatch for neighbours.1.values"),
        ("weight", lambda table: table.repeat(3), "size mismatch for neighbours.1.weight"),
    ],
)
def test_a_table_of_another_type_or_shape_is_refused(
    release: Path, name: str, change: Callable[[torch.Tensor], torch.Tensor], reason: str
) -> None:
    weights = load_file(release / "candidate_network.safetensors")
    weights[f"neighbours.1.{name}"] = change(weights[f"neighbours.1.{name}"])
    save_file(weights, release / "candidate_network.safetensors")
    with pytest.raises(ReleaseError, match=rf"(?s)candidate_network\.safetensors: .*{reason}"):
        load_candidate_network(open_release(reseal(release)), CPU)
