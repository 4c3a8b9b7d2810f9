"""On a planted log the network learns which impressions are watched, and for how long."""

import io
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from rich.console import Console

from tests.unit.training.planted import write_planted_impressions, write_planted_log
from tests.unit.training.settings import TINY
from winnow.logs.input_table import InteractionLogError
from winnow.logs.interactions import read_interactions
from winnow.networks.candidate import DeepCandidateGenerationModel
from winnow.networks.features.registry import FEATURES
from winnow.training.impression_ranking_trainee import ImpressionStage
from winnow.training.impression_run import ImpressionLog, impression_figures, train_candidate_network
from winnow.training.loop import train
from winnow.training.presets import Objective

CPU = torch.device("cpu")
ALL = tuple(FEATURES)
SILENT = Console(file=io.StringIO())


def read_log(directory: Path) -> ImpressionLog:
    interactions = read_interactions(directory / "log.csv", vocabulary_size=1000, min_item_count=1)
    return ImpressionLog.read(directory / "impressions.csv", directory / "items.csv", interactions, TINY)


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> ImpressionLog:
    directory = tmp_path_factory.mktemp("planted")
    write_planted_log(directory / "log.csv")
    write_planted_impressions(directory)
    return read_log(directory)


@pytest.fixture(scope="module")
def candidate_network(log: ImpressionLog, tmp_path_factory: pytest.TempPathFactory) -> DeepCandidateGenerationModel:
    checkpoints = tmp_path_factory.mktemp("checkpoints")
    network, _ = train_candidate_network(
        log, [], TINY, checkpoints=checkpoints, resume=False, device=CPU, console=SILENT
    )
    return network


@pytest.mark.parametrize(("objective", "features"), [("click", ALL), ("watch_time", ALL), ("watch_time", ())])
def test_what_is_watched_comes_first(
    log: ImpressionLog,
    candidate_network: DeepCandidateGenerationModel,
    objective: Objective,
    features: tuple[str, ...],
    tmp_path: Path,
) -> None:
    assert TINY.impressions is not None
    settings = replace(TINY.impressions, objective=objective, features=features)
    stage = ImpressionStage(log.impressions, candidate_network, log.facts, settings, seed=1, device=CPU)
    train(stage, epochs=settings.epochs, seed=1, identity="", checkpoint=tmp_path / "ranking.safetensors",
          resume=False, console=SILENT)  # fmt: skip
    stage.recalibrate()
    found = {
        part: impression_figures(stage.network, impressions)
        for part, impressions in (("validation", log.impressions.validation), ("test", log.impressions.test))
    }
    assert found["test"]["weighted_per_user_loss"] < 0.15
    assert found["test"]["auc_by_user"] > 0.85
    if objective == "watch_time":
        assert found["validation"]["expected_over_actual"] == pytest.approx(1, abs=1e-3)
        # Two hundred impressions, and networks that know some of them by heart.
        assert found["test"]["expected_over_actual"] == pytest.approx(1, abs=0.4)
    else:
        assert "expected_over_actual" not in found["test"]


def test_a_log_without_anything_to_learn_from_is_refused(log: ImpressionLog, tmp_path: Path) -> None:
    write_planted_log(tmp_path / "log.csv")
    write_planted_impressions(tmp_path)
    lines = (tmp_path / "impressions.csv").read_text()
    (tmp_path / "impressions.csv").write_text(lines.replace("True", "False"))
    with pytest.raises(InteractionLogError, match="the training part has no watched impression"):
        read_log(tmp_path)
    (tmp_path / "impressions.csv").write_text(lines)
    watches = (tmp_path / "log.csv").read_text().splitlines()
    later = [watches[0], *(f"{line}000000" for line in watches[1:] if not line.endswith(",0"))]
    (tmp_path / "log.csv").write_text("\n".join(later) + "\n")
    with pytest.raises(InteractionLogError, match="no watch of the interaction log is earlier"):
        read_log(tmp_path)
