"""Ranking of one release: batches of calls, and the memory that its table takes."""

import asyncio
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
import torch

from ranking_service.ranker import BFLOAT16_TOLERANCE, Ranker, choose_arithmetic, table_bytes
from ranking_service.service import RankingService
from ranking_service.settings import RankingSettings
from tests.releases import ITEM_COUNT, reseal, write_random_release
from winnow.history import RaggedRows, WatchHistories
from winnow.networks import folded_ranking
from winnow.networks.folded_ranking import item_half_table
from winnow.networks.options import Arithmetic
from winnow.networks.ranking import DeepRankingModel
from winnow.queries import RankingQuery
from winnow.release.golden import TOLERANCE
from winnow.release.manifest import ArithmeticEntry
from winnow.release.models.loader import load_ranking_network
from winnow.release.reader import Release, ReleaseError, current_release_id, open_current_release, open_release
from winnow.serving.metrics import Metrics
from winnow.serving.release_loader import MEMORY_PER_FILE_BYTE

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def release(releases: Path) -> Release:
    return open_current_release(releases)


@pytest.mark.parametrize("budget_bytes", [0, 16_000, 10**9])
def test_every_call_of_a_batch_gets_the_scores_that_it_gets_alone(release: Release, budget_bytes: int) -> None:
    ranker = Ranker.from_release(release, CPU, table_budget_bytes=budget_bytes)
    calls = [
        RankingQuery(histories=WatchHistories.from_lists(histories), candidates=RaggedRows.from_lists(candidates))
        for histories, candidates in [([[1, 2]], [[3, 4, 5]]), ([[], [9]], [[6], []]), ([[7]], [list(range(100))])]
    ]
    for query, scores in zip(calls, ranker.compute(calls), strict=True):
        np.testing.assert_allclose(scores, ranker.rank(query), rtol=1e-5)


@pytest.mark.parametrize("arithmetic", ["float32", "bfloat16"])
@pytest.mark.parametrize("layers", [0, 1, 3])
@pytest.mark.parametrize("budget_bytes", [0, 300 * 2, 300 * 4, 300 * 2 * 32, 10**9])
def test_the_size_of_the_table_is_known_before_it_is_made(
    release: Release, layers: int, budget_bytes: int, arithmetic: Arithmetic
) -> None:
    config = replace(release.manifest.ranking_network, n_hidden_layers=layers)
    manifest = release.manifest.model_copy(update={"ranking_network": config})
    table = item_half_table(DeepRankingModel.from_config(config), budget_bytes, arithmetic)
    assert table_bytes(manifest, budget_bytes, arithmetic) == (0 if table is None else table.nbytes)


def test_a_release_whose_table_does_not_fit_into_memory_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    release = open_release(tmp_path / write_random_release(tmp_path))
    network = load_ranking_network(release, CPU)
    table = item_half_table(network, 2**20)
    assert table is not None
    read = {"ranking_network.safetensors", "golden.safetensors"}
    file_bytes = sum(release.manifest.files[name].size_bytes for name in read)
    needed = MEMORY_PER_FILE_BYTE * file_bytes + table.nbytes
    settings = RankingSettings(releases=tmp_path, item_table_mebibytes=1)

    async def start(available_bytes: int) -> None:
        monkeypatch.setattr("winnow.serving.release_loader.available_bytes", lambda: available_bytes)
        service = RankingService(settings, Metrics())
        try:
            await service.keeper.load_current()
        finally:
            await service.close()

    asyncio.run(start(needed))
    with pytest.raises(ReleaseError, match="of memory"):
        asyncio.run(start(needed - 1))


def test_the_manifest_and_the_hardware_decide_on_the_arithmetic(
    release: Release, monkeypatch: pytest.MonkeyPatch
) -> None:
    wide = replace(release.manifest.ranking_network, embedding_dim=256, hidden_dim=256)
    keeps_order = ArithmeticEntry(kind="bfloat16")
    manifest = release.manifest.model_copy(update={"ranking_arithmetic": keeps_order, "ranking_network": wide})
    loses_order = manifest.model_copy(update={"ranking_arithmetic": ArithmeticEntry(kind="float32")})
    narrow = manifest.model_copy(update={"ranking_network": release.manifest.ranking_network})

    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bf16": True})
    assert choose_arithmetic("auto", manifest, CPU) == "bfloat16"
    assert choose_arithmetic("auto", loses_order, CPU) == "float32"
    assert choose_arithmetic("auto", narrow, CPU) == "float32"
    assert choose_arithmetic("float32", manifest, CPU) == "float32"
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bf16": False})
    assert choose_arithmetic("auto", manifest, CPU) == "float32"
    assert choose_arithmetic("bfloat16", loses_order, CPU) == "bfloat16"


@pytest.mark.parametrize(("setting", "tolerance"), [("auto", BFLOAT16_TOLERANCE), ("float32", TOLERANCE)])
def test_the_service_obeys_the_manifest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, setting: Literal["auto", "float32"], tolerance: float
) -> None:
    write_random_release(tmp_path)
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"amx_bf16": True})
    monkeypatch.setattr(folded_ranking, "SMALLEST_REORDERED_LAYER", 1)
    release = open_release(reseal(tmp_path / current_release_id(tmp_path), allow_bfloat16))
    service = RankingService(RankingSettings(releases=tmp_path, arithmetic=setting), Metrics())
    ranker = service.build(release)
    asyncio.run(service.close())
    assert ranker.golden_tolerance == tolerance


def allow_bfloat16(manifest: dict[str, Any]) -> None:
    manifest["ranking_arithmetic"]["kind"] = "bfloat16"


def test_rows_of_the_release_fit_its_catalogue(release: Release) -> None:
    assert Ranker.from_release(release, CPU).item_count == ITEM_COUNT
