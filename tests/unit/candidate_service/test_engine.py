"""The candidate service with an engine: what it needs, and what it answers."""

import asyncio
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import candidate_service
from candidate_service.engine import EngineRetriever
from candidate_service.retriever import Retriever
from candidate_service.service import CandidateService
from candidate_service.settings import CandidateSettings
from tests.releases import write_random_release
from winnow.distribution import missing_extras_named
from winnow.history import RaggedRows
from winnow.index import restricted
from winnow.milvus.expressions import EngineFilter
from winnow.milvus.record import CollectionRecord
from winnow.networks.options import NeighbourOptions
from winnow.queries import Candidates, RetrievalQuery
from winnow.release.golden import GoldenRequests
from winnow.release.golden_filters import GoldenMismatchError
from winnow.release.models.loader import load_candidate_network
from winnow.release.reader import Release, open_current_release, open_release
from winnow.rpc.errors import UnavailableError
from winnow.serving.device import Device
from winnow.serving.metrics import Metrics

CPU = torch.device("cpu")


class ExactEngine:
    """Answers as the release's own index does; filters are not looked at."""

    def __init__(self, release: Release, change: Callable[[Candidates], Candidates] = lambda found: found) -> None:
        self._index = Retriever.from_release(release, CPU)._index
        self._change = change

    async def search(
        self,
        user_BH: np.ndarray,
        query: RetrievalQuery,
        filter_of: Callable[[str], EngineFilter],
        deadline: float,
    ) -> Candidates:
        assert deadline > asyncio.get_running_loop().time()
        for restriction in query.restrictions.values():
            assert filter_of(restriction.filter).expression
        return self._change(self._index.search(torch.from_numpy(user_BH), query))


@pytest.fixture
def release(releases: Path) -> Release:
    return open_current_release(releases)


def retriever(release: Release, engine: Any, kind: type[EngineRetriever] = EngineRetriever) -> EngineRetriever:
    record = CollectionRecord(
        release_id=release.release_id, row_count=1, width=8, list_count=1, probe_count=1, recall_at_200=1, attributes=()
    )
    network = load_candidate_network(release, CPU, with_output_table=False)
    return kind(network, engine, record, CPU, 2**26, asyncio.run)


def golden_of(release: Release) -> GoldenRequests:
    """Without a filter: the engine here knows none."""
    return replace(release.golden_requests(), filter="")


def test_a_batch_is_answered_as_the_embedded_retriever_does(release: Release) -> None:
    histories = release.golden_requests().histories
    batch = [
        RetrievalQuery(
            histories=histories.slice(position, position + 2),
            counts=np.array([30, 50], dtype=np.int32),
            exclusions=histories.slice(position, position + 2),
        )
        for position in (0, 2)
    ]
    device = Device(stuck_seconds=30)

    async def main() -> list[Candidates]:
        deadline = asyncio.get_running_loop().time() + 10
        answers, seconds = await retriever(release, ExactEngine(release)).answer(batch, device, deadline)
        assert seconds > 0
        return list(answers)

    for found, expected in zip(asyncio.run(main()), Retriever.from_release(release, CPU).compute(batch), strict=True):
        np.testing.assert_array_equal(found.rows.rows, expected.rows.rows)
        np.testing.assert_array_equal(found.rows.offsets, expected.rows.offsets)
        np.testing.assert_allclose(found.scores, expected.scores, rtol=1e-5)
    device.close()


def test_golden_requests_say_whether_the_collection_is_that_of_the_release(release: Release) -> None:
    retriever(release, ExactEngine(release)).check_golden(golden_of(release))


class ExactEngineOfRows(ExactEngine):
    """Answers within the rows that are allowed."""

    async def search(
        self,
        user_BH: np.ndarray,
        query: RetrievalQuery,
        filter_of: Callable[[str], EngineFilter],
        deadline: float,
    ) -> Candidates:
        found = restricted.search(self._index, torch.from_numpy(user_BH), query, lambda _: pytest.fail("no filter"))
        return self._change(found)


def test_golden_requests_of_a_release_with_neighbours_are_compared_without_them(tmp_path: Path) -> None:
    table = NeighbourOptions(neighbour_count=40, latest_count=5, recency_decay=0.9)
    release = open_release(tmp_path / write_random_release(tmp_path, neighbours=(table,)))
    retriever(release, ExactEngineOfRows(release)).check_golden(golden_of(release))
    with pytest.raises(GoldenMismatchError, match="the engine"):
        retriever(release, ExactEngineOfRows(release, of_other_vectors)).check_golden(golden_of(release))


def of_other_vectors(found: Candidates) -> Candidates:
    return Candidates(found.rows, found.scores + 0.5)


def of_other_rows(found: Candidates) -> Candidates:
    return Candidates(RaggedRows((found.rows.rows + 150) % 300, found.rows.offsets), found.scores)


def nothing(found: Candidates) -> Candidates:
    return Candidates(RaggedRows.empty(len(found.rows)), found.scores[:0])


def no_answer(_found: Candidates) -> Candidates:
    raise UnavailableError("Milvus does not answer: UNAVAILABLE")


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (of_other_vectors, "the engine: a golden score is off by 0.5"),
        (of_other_rows, "a golden score is off"),
        (nothing, "the engine finds 0 of 200 golden candidates"),
        (no_answer, "the engine gives no answer: Milvus does not answer: UNAVAILABLE"),
    ],
)
def test_a_collection_of_something_else_is_refused(
    release: Release, change: Callable[[Candidates], Candidates], reason: str
) -> None:
    with pytest.raises(GoldenMismatchError, match=reason):
        retriever(release, ExactEngine(release, change)).check_golden(golden_of(release))


def test_several_batches_are_in_flight_while_the_engine_searches(releases: Path, release: Release) -> None:
    waiting = asyncio.Event()
    seen = []

    class Slow(ExactEngine):
        async def search(self, *arguments: Any) -> Candidates:
            seen.append(arguments)
            if len(seen) == 2:
                waiting.set()
            await waiting.wait()
            return await super().search(*arguments)

    class Unchecked(EngineRetriever):
        def check_golden(self, golden: GoldenRequests) -> None:
            pass

    class Service(CandidateService):
        def build(self, release: Release) -> Any:
            return retriever(release, Slow(release), Unchecked)

    class Context:
        def time_remaining(self) -> float:
            return 10.0

    async def main() -> None:
        service = Service(CandidateSettings(releases=releases, max_batch_queries=1), Metrics())
        await service.keeper.load_current()
        history = release.golden_requests().histories.slice(0, 1)
        query = RetrievalQuery(histories=history, counts=np.array([5], dtype=np.int32), exclusions=history)
        context: Any = Context()
        # Each would wait for ever for the other, if there were one batch at a time.
        answers = await asyncio.gather(*(service.answer(release.release_id, lambda: query, context) for _ in range(2)))
        assert all(answer is not None for answer in answers)
        await service.close()

    asyncio.run(main())


def test_settings_that_need_item_vectors_are_refused_with_an_engine() -> None:
    for flag in ("--exact-search", "--live-recall-share=0.1"):
        with pytest.raises(SystemExit, match="the service has no item vectors"):
            CandidateSettings.from_command_line(["--engine=milvus", flag])


def test_without_the_extra_the_service_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pymilvus", None)
    monkeypatch.delattr(candidate_service, "engine")
    for name in list(sys.modules):
        if name == "candidate_service.engine" or name.startswith("winnow.milvus."):
            monkeypatch.delitem(sys.modules, name)
    with (
        pytest.raises(SystemExit, match=r"pymilvus is not installed: pip install 'winnow-recommender\[milvus\]'"),
        missing_extras_named("serve"),
    ):
        CandidateService(CandidateSettings(engine="milvus"), Metrics())
