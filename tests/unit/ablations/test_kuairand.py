"""The cells of KuaiRand's studies, measured on planted impressions, have every figure that their tables show."""

from dataclasses import replace
from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console

from ablations import kuairand
from ablations.kuairand import BASE, CALIBRATION_HEADINGS, ORDER_HEADINGS, RankingLog
from tests.unit.ablations.published import assert_published_in_these_words
from tests.unit.training.planted import write_planted_impressions, write_planted_log
from winnow.logs.impression_log import ImpressionLog
from winnow.logs.interactions import read_interactions
from winnow.logs.items_file import read_item_facts

CONSOLE = Console(file=StringIO())


@pytest.fixture(scope="module")
def ranking(tmp_path_factory: pytest.TempPathFactory) -> RankingLog:
    directory = tmp_path_factory.mktemp("log")
    write_planted_log(directory / "log.csv")
    write_planted_impressions(directory)
    interactions = read_interactions(directory / "log.csv", vocabulary_size=100, min_item_count=1)
    log = ImpressionLog.read(directory / "impressions.csv", interactions, validation_share=0.2, test_share=0.2)
    facts = read_item_facts(directory / "items.csv", interactions.vocabulary, log.popularity)
    return RankingLog(log=log, facts=facts, console=CONSOLE, checkpoints=directory / "checkpoints")


def test_every_seed_counts(ranking: RankingLog, tmp_path: Path) -> None:
    settings = replace(BASE, hidden_dim=8, n_hidden_layers=1, epochs=1, impressions_per_batch=128)
    found = ranking.cell("two", {}, settings, seed_count=2).measure(tmp_path / "two")
    assert set(found) >= {*ORDER_HEADINGS, *CALIBRATION_HEADINGS}
    assert found["test_weighted_per_user_loss_range"] > 0
    one = ranking.cell("one", {}, settings).measure(tmp_path / "one")
    difference = abs(found["test_weighted_per_user_loss"] - one["test_weighted_per_user_loss"])
    assert difference == pytest.approx(found["test_weighted_per_user_loss_range"] / 2)
    item_mean = ranking.item_cell().measure(tmp_path)
    assert set(item_mean) >= {*ORDER_HEADINGS, *CALIBRATION_HEADINGS}


def test_studies_have_each_set_up_of_the_paper_and_each_feature(ranking: RankingLog) -> None:
    table, calibration, features = (
        study(ranking) for study in (kuairand.table_1, kuairand.calibration, kuairand.features)
    )
    assert len({cell.name for cell in table.cells}) == len(table.cells) == 2 * 7 + 1
    # Weighted set-ups are in both tables and are measured once.
    assert {cell.fingerprint for cell in table.cells} > {cell.fingerprint for cell in calibration.cells[:7]}
    assert len(features.cells) == len({cell.fingerprint for cell in features.cells})
    for study in (table, calibration, features):
        assert_published_in_these_words(study)


def test_a_missing_data_set_is_skipped_with_a_message(tmp_path: Path) -> None:
    said = StringIO()
    assert kuairand.studies(tmp_path, epochs=1, console=Console(file=said, width=200)) == []
    assert "KuaiRand-Pure is skipped" in said.getvalue()
