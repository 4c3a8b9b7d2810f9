"""Both networks answer on a GPU as on the CPU. docs/gpu.md says what else to run there, and in which order."""

import asyncio
from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
import torch

from candidate_service.retriever import Retriever
from ranking_service.ranker import BFLOAT16_TOLERANCE, Ranker
from tests.releases import ITEM_COUNT
from tests.unit.training.settings import TINY
from tests.unit.training.trainees import ITEM_COUNT as PLANTED_ITEM_COUNT
from tests.unit.training.trainees import SPLIT, context_in
from winnow.history import RaggedRows, WatchHistories
from winnow.queries import RankingQuery, Restriction, RetrievalQuery
from winnow.release.golden import TOLERANCE
from winnow.release.reader import Release, open_current_release
from winnow.training.candidate_trainee import CandidateTrainee
from winnow.training.loop import train
from winnow.training.watch_ranking_trainee import WatchRankingTrainee

CPU = torch.device("cpu")
HISTORIES = WatchHistories.from_lists([[1, 2], [], list(range(60)), [299]])
ON_A_GPU = pytest.param(
    torch.device("cuda"),
    marks=[pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")],
)
# The CPU is among them, so that a mistake of the tests shows on a machine without a GPU.
on_each_device = pytest.mark.parametrize(
    "device",
    [CPU, ON_A_GPU],
    ids=str,
)


@pytest.fixture(scope="module")
def release(releases: Path) -> Release:
    return open_current_release(releases)


@on_each_device
@pytest.mark.parametrize("filtered", ["", "year >= 2000"])
def test_candidates_are_those_of_the_cpu(release: Release, device: torch.device, filtered: str) -> None:
    restrictions = dict.fromkeys(range(len(HISTORIES)), Restriction(filter=filtered)) if filtered else {}
    query = RetrievalQuery(
        histories=HISTORIES,
        counts=np.array([20, 5, ITEM_COUNT, 1], np.int32),
        exclusions=HISTORIES,
        restrictions=restrictions,
    )
    found = []
    for each in (Retriever.from_release(release, CPU, exact_search=True), Retriever.from_release(release, device)):
        asyncio.run(each.prepare(query))
        found.append(each.retrieve(query))
    expected, on_device = found
    np.testing.assert_array_equal(on_device.rows.offsets, expected.rows.offsets)
    np.testing.assert_allclose(on_device.scores, expected.scores, rtol=1e-3, atol=1e-4)


@on_each_device
@pytest.mark.parametrize("arithmetic", ["float32", "bfloat16"])
@pytest.mark.parametrize("table_budget_bytes", [0, 10**9])
def test_scores_are_those_of_the_cpu(
    release: Release, device: torch.device, arithmetic: Literal["float32", "bfloat16"], table_budget_bytes: int
) -> None:
    rows = np.random.default_rng(0).integers(0, ITEM_COUNT, (len(HISTORIES), 200))
    query = RankingQuery(histories=HISTORIES, candidates=RaggedRows.from_lists(rows.tolist()))
    expected = Ranker.from_release(release, CPU).rank(query)
    ranker = Ranker.from_release(release, device, table_budget_bytes=table_budget_bytes, arithmetic=arithmetic)
    tolerance = BFLOAT16_TOLERANCE if arithmetic == "bfloat16" else TOLERANCE
    np.testing.assert_allclose(ranker.rank(query), expected, rtol=tolerance, atol=tolerance)


@on_each_device
def test_golden_requests_are_answered(release: Release, device: torch.device) -> None:
    golden = release.golden_requests()
    Retriever.from_release(release, device).check_golden(golden)
    Ranker.from_release(release, device).check_golden(golden)


@pytest.mark.parametrize("device", [ON_A_GPU])
def test_both_networks_train(device: torch.device, tmp_path: Path) -> None:
    context = replace(context_in(tmp_path), device=device)
    candidates = CandidateTrainee(SPLIT, SPLIT.watch_counts(PLANTED_ITEM_COUNT), TINY.candidate, context)
    train(candidates, context)
    nothing = np.zeros(len(SPLIT.training.rows), dtype=np.bool_)
    ranking = WatchRankingTrainee(SPLIT, candidates.network, TINY.ranking, context, held_back=nothing)
    train(ranking, context)
    for network in (candidates.network, ranking.network):
        for weights in network.parameters():
            assert weights.device.type == device.type
            assert torch.isfinite(weights).all()
