"""Retraining publishes what is not worse than the current release, keeps that otherwise, and says which and why."""

import asyncio
import shutil
from dataclasses import replace
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import typer
from rich.console import Console
from typer.testing import CliRunner

from tests.unit.training.planted import planted_histories, write_planted_log
from tests.unit.training.planted_run import train_planted
from tests.unit.training.settings import TINY
from winnow.commands.retrain import retrain
from winnow.evaluation.gate import Verdict, judge
from winnow.logs.interactions import read_interactions
from winnow.logs.item_changes import no_changes
from winnow.loop.retrain import latest_held_out
from winnow.release.models.derivation import derive_release
from winnow.release.publication import point_current_at
from winnow.release.reader import current_release_id, open_current_release, open_release
from winnow.users.events import Event, EventKind
from winnow.users.sqlite_store import SqliteStore

CPU = torch.device("cpu")
SETTINGS = replace(TINY, candidate=replace(TINY.candidate, epochs=5), ranking=replace(TINY.ranking, epochs=1))
# Without neighbours, which would make up for it.
BAD = (
    "[candidate]\nlearning_rate = 1e-9\nembedding_dim = 8\nhidden_dim = 8\n"
    "[ranking]\nembedding_dim = 8\nneighbours = false\n"
)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with a release of the planted log, and a store with the same watches and one more of each user."""
    directory = tmp_path_factory.mktemp("loop")
    write_planted_log(directory / "log.csv")
    train_planted(directory, SETTINGS)
    watches = planted_histories()
    events = [
        Event(f"user {user}", str(second), EventKind.WATCH, f"item {row}", 1 + second)
        for user in range(len(watches))
        for second, row in enumerate([*watches[user].tolist(), _unwatched(watches[user].tolist(), user)])
    ]

    async def fill() -> None:
        store = SqliteStore(directory / "users.db", 100)
        await store.open()
        await store.append(events)
        await store.close()

    asyncio.run(fill())
    return directory


def _unwatched(rows: list[int], user: int) -> int:
    """Another item of the user's taste."""
    return next(row for row in range(user % 2, 40, 2) if row not in rows)


@pytest.fixture
def place(trained: Path, tmp_path: Path) -> Path:
    """A copy, for tests that publish."""
    shutil.copytree(trained, tmp_path / "copy")
    return tmp_path / "copy"


@pytest.fixture
def app() -> typer.Typer:
    app = typer.Typer()
    app.command()(retrain)
    return app


def arguments(place: Path) -> list[str]:
    return [
        "--users-store", str(place / "users.db"),
        "--releases", str(place / "releases"),
        "--work", str(place / "work"),
        "--candidate-epochs", "1",
        "--ranking-epochs", "1",
    ]  # fmt: skip


def test_a_release_that_is_not_worse_becomes_current_and_starts_from_the_last_one(
    app: typer.Typer, place: Path
) -> None:
    base = current_release_id(place / "releases")
    result = CliRunner().invoke(app, [*arguments(place), "--margin", "0.2"], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    new = open_current_release(place / "releases")
    assert new.release_id != base
    assert new.manifest.training["started_from"] == base
    assert f"candidate network: starts from release {base}: " in result.output
    assert "NDCG@10 on the latest held-out watches: " in result.output
    assert f"the current release {base}, " in result.output
    assert f"Release {new.release_id} is current in " in result.output
    # Once more, with nothing new.
    again = CliRunner().invoke(app, arguments(place))
    assert again.exit_code == 3
    assert f"Release {new.release_id} stays current" in again.output
    assert f"there is no watch that {new.release_id} does not know" in again.output
    assert "epoch" not in again.output


def test_a_worse_release_is_kept_back_and_a_margin_lets_it_pass(app: typer.Typer, place: Path) -> None:
    base = current_release_id(place / "releases")
    (place / "bad.toml").write_text(BAD)
    given = [*arguments(place), "--settings", str(place / "bad.toml")]
    kept = CliRunner().invoke(app, given)
    assert kept.exit_code == 3, kept.output
    assert f"the current release {base}, " in kept.output
    assert f"Release {base} stays current in " in kept.output
    assert "it is worse than" in kept.output
    assert "To make the new release current all the same: winnow publish " in kept.output
    assert current_release_id(place / "releases") == base
    passed = CliRunner().invoke(app, [*given, "--margin", "1"])
    assert passed.exit_code == 0, passed.output
    assert current_release_id(place / "releases") != base


@pytest.mark.slow
def test_retired_items_stay_retired(app: typer.Typer, place: Path) -> None:
    base = open_current_release(place / "releases")
    derive_release(base, no_changes(), retire=["item 3"], restore=(), make_current=True)
    result = CliRunner().invoke(app, [*arguments(place), "--margin", "1"])
    assert result.exit_code == 0, result.output
    new = open_current_release(place / "releases")
    assert new.vocabulary().item_ids(new.retired().tolist()) == ["item 3"]


@pytest.mark.slow
def test_a_release_that_became_current_meanwhile_stays_so(
    app: typer.Typer, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    releases = place / "releases"
    base = current_release_id(releases)
    derived = derive_release(
        open_release(releases / base), no_changes(), retire=["item 3"], restore=(), make_current=False
    ).release_id

    def judge_late(*given: Any, **named: Any) -> Verdict:
        point_current_at(releases, derived)
        return judge(*given, **named)

    monkeypatch.setattr("winnow.loop.retrain.judge", judge_late)
    result = CliRunner().invoke(app, [*arguments(place), "--margin", "1"])
    assert result.exit_code == 3, result.output
    assert f"{derived} has become current in the meantime" in result.output
    assert current_release_id(releases) == derived


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ('split = "global-time"', "was trained with the split leave-last-out, so it may have learned"),
        ("nonsense = 1", "there is no setting nonsense"),
    ],
)
def test_settings_that_do_not_fit_are_refused_before_anything_is_written(
    app: typer.Typer, trained: Path, tmp_path: Path, settings: str, message: str
) -> None:
    (tmp_path / "settings.toml").write_text(settings)
    given = [*arguments(trained), "--settings", str(tmp_path / "settings.toml"), "--work", str(tmp_path / "work")]
    result = CliRunner().invoke(app, given)
    assert result.exit_code == 1
    assert message in result.output
    assert not (tmp_path / "work").exists()


def test_without_a_current_release_there_is_nothing_to_begin_with(app: typer.Typer, tmp_path: Path) -> None:
    result = CliRunner().invoke(app, arguments(tmp_path))
    assert result.exit_code == 1
    assert "CURRENT" in result.output


def test_the_latest_watches_are_those_of_users_with_something_new(tmp_path: Path) -> None:
    lines = [f"user {user},item {at % 7},{at + (1000 if user < 150 else 0)}" for user in range(300) for at in range(4)]
    (tmp_path / "log.csv").write_text("\n".join(["user_id,item_id,timestamp", *lines]) + "\n")
    interactions = read_interactions(tmp_path / "log.csv", vocabulary_size=100, min_item_count=1)
    console = Console(file=StringIO())
    latest = latest_held_out(interactions, "leave-last-out", 500, "log.csv", console)
    assert latest.users.tolist() == list(range(150))
    assert latest.histories[149].tolist() == [interactions.vocabulary.rows([f"item {at}"])[0][0] for at in range(3)]
    everything = latest_held_out(interactions, "leave-last-out", 5000, "log.csv", console)
    np.testing.assert_array_equal(everything.users, np.arange(300))
