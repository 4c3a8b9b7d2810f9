"""A search is kept in a file, leaves something usable however it ends, and measures what training measures."""

import sqlite3
import tomllib
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import optuna
import pytest
from optuna.trial import FrozenTrial, Trial, TrialState

from tests.unit.training.settings import TINY
from tests.unit.training.trainees import ITEM_COUNT, NOWHERE, SPLIT, context_in
from winnow.training.search import Objective, OutOfTimeError, Search, open_search, run_trials
from winnow.training.search_report import PLOT_FILE, SETTINGS_FILE, TRIALS_FILE, write_plot, write_results
from winnow.training.search_space import as_toml, search_space, values_of, with_values
from winnow.training.settings_file import read_settings
from winnow.training.train_on_watches import train_on_watches

BRIEF = replace(TINY, candidate=replace(TINY.candidate, epochs=2), ranking=replace(TINY.ranking, epochs=1))


def opened(directory: Path, identity: str = "planted") -> Search:
    return open_search(directory / "study.sqlite3", TINY, identity)


def run(search: Search, objective: Callable[[Trial, float], float], count: int) -> list[FrozenTrial]:
    """Run some trials, and then end in the middle of one."""
    ended: list[FrozenTrial] = []

    def counted(trial: Trial, deadline: float) -> float:
        if len(ended) == count:
            raise OutOfTimeError
        return objective(trial, deadline)

    run_trials(search, counted, seconds=1000, told=ended.append)
    return ended


def small_rate_is_good(trial: Trial, deadline: float) -> float:
    return 1 - float(trial.params["candidate.learning_rate"])


def test_it_begins_with_the_settings_it_was_given_and_finds_better_ones(tmp_path: Path) -> None:
    search = opened(tmp_path)
    first, *_ = run(search, small_rate_is_good, 8)
    assert first.params == values_of(TINY)
    assert float(search.best["candidate.learning_rate"]) < TINY.candidate.learning_rate
    assert set(search.importances()) == set(search_space(TINY))
    assert sum(search.importances().values()) == pytest.approx(1)


def test_it_continues_from_its_file_and_only_with_the_same_data(tmp_path: Path) -> None:
    run(opened(tmp_path), small_rate_is_good, 3)
    # A process that is killed leaves a trial that never ends.
    killed = opened(tmp_path).study.ask(search_space(TINY))
    continued = opened(tmp_path)
    assert continued.study.trials[killed.number].state is TrialState.FAIL
    assert len(continued.completed) == 3
    run(continued, small_rate_is_good, 2)
    assert len(opened(tmp_path).completed) == 5
    with pytest.raises(ValueError, match="is a search on other data or settings"):
        opened(tmp_path, "other data")


def test_a_file_that_is_no_search_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "study.sqlite3").write_bytes(b"no database at all" * 100)
    with pytest.raises(ValueError, match=r"study\.sqlite3 cannot be read as a search"):
        opened(tmp_path)


def test_a_file_of_another_version_of_optuna_is_an_error(tmp_path: Path) -> None:
    opened(tmp_path)
    with closing(sqlite3.connect(tmp_path / "study.sqlite3")) as database, database:
        database.execute("update alembic_version set version_num = 'v99'")
    with pytest.raises(ValueError, match=r"study\.sqlite3 cannot be read as a search"):
        opened(tmp_path)


def test_the_name_of_a_directory_may_have_any_characters(tmp_path: Path) -> None:
    name = "what? {x} #1 100%25 ü:@&="
    run(opened(tmp_path / name), small_rate_is_good, 1)
    assert [path.name for path in tmp_path.iterdir()] == [name]
    assert [path.name for path in (tmp_path / name).iterdir()] == ["study.sqlite3"]
    assert len(opened(tmp_path / name).completed) == 1


@pytest.mark.parametrize("ends_with", [KeyboardInterrupt, OutOfTimeError])
def test_a_trial_that_is_stopped_leaves_the_best_one_before_it(tmp_path: Path, ends_with: type[BaseException]) -> None:
    search = opened(tmp_path)
    run(search, small_rate_is_good, 1)

    def stopped(trial: Trial, deadline: float) -> float:
        raise ends_with

    try:
        run_trials(search, stopped, seconds=1000, told=lambda trial: None)
    except KeyboardInterrupt:
        assert ends_with is KeyboardInterrupt
    write_results(search, tmp_path)
    assert read_settings(tmp_path / SETTINGS_FILE, TINY) == TINY
    states = [line.split(",")[1] for line in (tmp_path / TRIALS_FILE).read_text().splitlines()]
    assert states == ["state", "complete", "fail", "fail"]


def test_before_the_first_trial_has_ended_the_file_of_settings_changes_nothing(tmp_path: Path) -> None:
    search = opened(tmp_path)
    write_results(search, tmp_path)
    assert read_settings(tmp_path / SETTINGS_FILE, TINY) == TINY
    assert not write_plot(search, tmp_path)


def test_the_file_of_settings_is_the_best_trial(tmp_path: Path) -> None:
    search = opened(tmp_path)
    run(search, small_rate_is_good, 5)
    write_results(search, tmp_path)
    assert read_settings(tmp_path / SETTINGS_FILE, TINY) == with_values(TINY, search.best)
    assert write_plot(search, tmp_path)
    assert (tmp_path / PLOT_FILE).read_bytes().startswith(b"\x89PNG")


def test_every_table_of_the_file_is_there_once_and_widths_that_must_be_equal_are() -> None:
    values = {**values_of(TINY), "candidate.embedding_dim": 32}
    tables = tomllib.loads(as_toml(values))
    assert tables["candidate"]["hidden_dim"] == tables["ranking"]["embedding_dim"] == 32
    assert tables["candidate"]["options"]["history"]["history_length"] == 8


def test_a_trial_is_measured_as_training_measures_and_a_bad_one_is_pruned(tmp_path: Path) -> None:
    search = open_search(tmp_path / "study.sqlite3", BRIEF, "planted")
    objective = Objective(SPLIT, ITEM_COUNT, BRIEF, NOWHERE)
    trial = search.study.ask(search_space(BRIEF))
    trained = train_on_watches(SPLIT, ITEM_COUNT, (), BRIEF, context_in(tmp_path / "run"))
    assert objective(trial, float("inf")) == trained.figures["validation"]["chain"]["ndcg_at_10"]
    with pytest.raises(OutOfTimeError):
        objective(search.study.ask(search_space(BRIEF)), 0.0)
    always = optuna.create_study(direction="maximize", pruner=optuna.pruners.ThresholdPruner(lower=2.0))
    with pytest.raises(optuna.TrialPruned):
        objective(always.ask(search_space(BRIEF)), float("inf"))
