import json
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from tests.unit.training.planted import write_planted_impressions, write_planted_log
from tests.unit.training.settings import TINY
from winnow.commands.train import train
from winnow.training import presets


@pytest.fixture
def app(monkeypatch: pytest.MonkeyPatch) -> typer.Typer:
    monkeypatch.setitem(presets.PRESETS, "tiny", TINY)
    app = typer.Typer()
    app.command()(train)
    return app


def arguments(directory: Path) -> list[str]:
    return [
        "--interactions", str(directory / "log.csv"),
        "--releases", str(directory / "releases"),
        "--checkpoints", str(directory / "checkpoints"),
        "--preset", "tiny",
        "--candidate-epochs", "2",
        "--seed", "3",
    ]  # fmt: skip


def test_train_writes_a_release_and_prints_the_figures(app: typer.Typer, tmp_path: Path) -> None:
    write_planted_log(tmp_path / "log.csv")
    result = CliRunner().invoke(app, arguments(tmp_path), catch_exceptions=False)
    assert result.exit_code == 0
    assert "candidate network, epoch 2 of 2" in result.output
    assert "NDCG@10" in result.output
    assert (tmp_path / "releases" / "CURRENT").exists()


def test_an_unusable_log_is_explained(app: typer.Typer, tmp_path: Path) -> None:
    (tmp_path / "log.csv").write_text("user_id,item_id\nu,i\n")
    result = CliRunner().invoke(app, arguments(tmp_path))
    assert result.exit_code == 1
    assert "column timestamp is missing" in result.output
    assert "Traceback" not in result.output


def test_a_checkpoint_of_another_run_is_not_continued(app: typer.Typer, tmp_path: Path) -> None:
    write_planted_log(tmp_path / "log.csv")
    assert CliRunner().invoke(app, arguments(tmp_path)).exit_code == 0
    result = CliRunner().invoke(app, [*arguments(tmp_path), "--seed", "4", "--resume"])
    assert result.exit_code == 1
    assert "of other settings or other data" in result.output


def test_an_unknown_preset_is_named(app: typer.Typer, tmp_path: Path) -> None:
    write_planted_log(tmp_path / "log.csv")
    result = CliRunner().invoke(app, [*arguments(tmp_path), "--preset", "huge"])
    assert result.exit_code == 2
    assert "huge" in result.output


def test_a_split_by_time_is_kept_in_the_release(app: typer.Typer, tmp_path: Path) -> None:
    write_planted_log(tmp_path / "log.csv")
    result = CliRunner().invoke(app, [*arguments(tmp_path), "--split", "global-time"], catch_exceptions=False)
    assert "Split: watches before 1970-01-01 00:00:09 UTC are trained on" in result.output
    [manifest] = (tmp_path / "releases").glob("*/manifest.json")
    training = json.loads(manifest.read_text())["training"]
    assert training["settings"]["split"] == "global-time"
    assert len(training["epochs"]["candidate"]) == 2
    assert training["epochs"]["ranking"][0]["loss"] > 0


def test_an_unknown_split_is_named(app: typer.Typer, tmp_path: Path) -> None:
    result = CliRunner().invoke(app, [*arguments(tmp_path), "--split", "random"])
    assert result.exit_code == 2
    assert "random" in result.output


def test_ranking_learns_from_impressions_where_the_preset_says_how(app: typer.Typer, tmp_path: Path) -> None:
    write_planted_log(tmp_path / "log.csv")
    write_planted_impressions(tmp_path)
    given = [*arguments(tmp_path), "--impressions", str(tmp_path / "impressions.csv"), "--ranking-epochs", "1"]
    result = CliRunner().invoke(app, given, catch_exceptions=False)
    assert result.exit_code == 0
    assert "weighted per user loss" in result.output
    refused = CliRunner().invoke(app, [*given, "--preset", "demo"])
    assert refused.exit_code == 2
    assert "does not say how to learn from impressions" in refused.output
