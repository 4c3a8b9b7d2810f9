"""On a planted log the network learns which impressions are watched, and for how long."""

from dataclasses import replace
from pathlib import Path

import pytest

from tests.unit.training.planted import write_planted_impressions, write_planted_log
from tests.unit.training.settings import TINY
from tests.unit.training.trainees import context_in
from winnow.catalogue.item_facts import ItemFacts
from winnow.evaluation.impression_figures import impression_figures
from winnow.logs.impression_log import ImpressionLog
from winnow.logs.interactions import read_interactions
from winnow.logs.items_file import read_item_facts
from winnow.networks.candidate import DeepCandidateGenerationModel
from winnow.networks.features.registry import FEATURES
from winnow.training.checkpoint import CheckpointError
from winnow.training.presets import Objective
from winnow.training.train_on_impressions import train_candidate_network, train_ranking_network

assert TINY.impressions is not None
SETTINGS = TINY.impressions
ALL = tuple(FEATURES)


def read_log(directory: Path) -> tuple[ImpressionLog, ItemFacts]:
    interactions = read_interactions(directory / "log.csv", vocabulary_size=1000, min_item_count=1)
    log = ImpressionLog.read(directory / "impressions.csv", interactions, validation_share=0.2, test_share=0.2)
    return log, read_item_facts(directory / "items.csv", interactions.vocabulary, log.popularity)


@pytest.fixture(scope="module")
def planted(tmp_path_factory: pytest.TempPathFactory) -> tuple[ImpressionLog, ItemFacts]:
    directory = tmp_path_factory.mktemp("planted")
    write_planted_log(directory / "log.csv")
    write_planted_impressions(directory)
    return read_log(directory)


@pytest.fixture(scope="module")
def candidate_network(
    planted: tuple[ImpressionLog, ItemFacts], tmp_path_factory: pytest.TempPathFactory
) -> DeepCandidateGenerationModel:
    context = context_in(tmp_path_factory.mktemp("checkpoints"))
    network, _ = train_candidate_network(planted[0], [], TINY.candidate, context)
    return network


@pytest.mark.parametrize(("objective", "features"), [("click", ALL), ("watch_time", ALL), ("watch_time", ())])
def test_what_is_watched_comes_first(
    planted: tuple[ImpressionLog, ItemFacts],
    candidate_network: DeepCandidateGenerationModel,
    objective: Objective,
    features: tuple[str, ...],
    tmp_path: Path,
) -> None:
    log, facts = planted
    settings = replace(SETTINGS, objective=objective, features=features)
    network, _ = train_ranking_network(log, facts, candidate_network, settings, context_in(tmp_path, seed=1))
    found = {
        part: impression_figures(network, impressions)
        for part, impressions in (("validation", log.impressions.validation), ("test", log.impressions.test))
    }
    assert found["test"]["weighted_per_user_loss"] < 0.15
    assert found["test"]["auc_by_user"] > 0.85
    if objective == "watch_time":
        assert found["validation"]["expected_over_actual"] == pytest.approx(1, abs=1e-3)
        # Two hundred impressions, and networks that have memorised some of them.
        assert found["test"]["expected_over_actual"] == pytest.approx(1, abs=0.4)
    else:
        assert "expected_over_actual" not in found["test"]


def test_a_checkpoint_with_other_facts_about_the_items_is_refused(
    planted: tuple[ImpressionLog, ItemFacts], candidate_network: DeepCandidateGenerationModel, tmp_path: Path
) -> None:
    """Facts are stored in the network: those of the checkpoint would replace those of the new items file."""
    log, facts = planted
    settings = replace(SETTINGS, epochs=1)
    train_ranking_network(log, facts, candidate_network, settings, context_in(tmp_path))
    train_ranking_network(log, facts, candidate_network, settings, context_in(tmp_path, resume=True))
    changed = replace(facts, categories=1 - facts.categories)
    with pytest.raises(CheckpointError, match="was made with other settings or data"):
        train_ranking_network(log, changed, candidate_network, settings, context_in(tmp_path, resume=True))
