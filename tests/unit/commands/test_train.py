import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import typer
from safetensors import SafetensorError
from typer.testing import CliRunner

from candidate_service.retriever import Retriever
from ranking_service.ranker import Ranker
from tests.unit.training.planted import planted_successions, write_planted_impressions, write_planted_log
from tests.unit.training.settings import TINY
from winnow.commands.items import items
from winnow.commands.train import train
from winnow.contexts import RequestContexts
from winnow.history import RaggedRows, WatchHistories
from winnow.locks import only_process_in
from winnow.logs.part_writer import write_parts
from winnow.queries import RankingQuery, RetrievalQuery
from winnow.release.reader import open_current_release
from winnow.training import presets

CPU = torch.device("cpu")


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


def test_two_runs_do_not_write_over_each_others_checkpoints(app: typer.Typer, tmp_path: Path) -> None:
    write_planted_log(tmp_path / "log.csv")
    with only_process_in(tmp_path / "checkpoints"):
        result = CliRunner().invoke(app, arguments(tmp_path))
    assert result.exit_code == 1
    assert "checkpoints: another process is working there" in result.output.replace("\n", "")
    assert not (tmp_path / "releases").exists()


@pytest.mark.slow
def test_a_log_in_parts_makes_the_same_release(app: typer.Typer, tmp_path: Path) -> None:
    """Weights included: the id of a release is a hash over its files."""
    weights = set()
    for name in ("file", "parts"):
        (tmp_path / name).mkdir()
        write_planted_log(tmp_path / name / "log.csv")
        given = arguments(tmp_path / name)
        if name == "parts":
            write_parts([tmp_path / name / "log.csv"], tmp_path / name / "log.parts")
            given[1] = str(tmp_path / name / "log.parts")
        assert CliRunner().invoke(app, given, catch_exceptions=False).exit_code == 0
        [manifest] = (tmp_path / name / "releases").glob("*/manifest.json")
        written = json.loads(manifest.read_text())
        weights.add(json.dumps([written["training"]["data_sha256"], written["files"], written["figures"]]))
    assert len(weights) == 1


def test_the_plan_is_told_before_the_first_epoch_and_not_where_a_run_continues(
    app: typer.Typer, tmp_path: Path
) -> None:
    write_planted_log(tmp_path / "log.csv")
    output = CliRunner().invoke(app, arguments(tmp_path), catch_exceptions=False).output
    assert "candidate network: 2 epochs of 15 steps, about " in output
    assert "ranking network: 3 epochs of " in output
    assert output.index("Plan: about ") < output.index("epoch 1 of 2")
    continued = CliRunner().invoke(app, [*arguments(tmp_path), "--resume"], catch_exceptions=False)
    assert continued.exit_code == 0
    assert "Plan" not in continued.output


def test_options_win_over_the_settings_file_and_that_over_the_preset(app: typer.Typer, tmp_path: Path) -> None:
    write_planted_log(tmp_path / "log.csv")
    (tmp_path / "settings.toml").write_text("[candidate]\nepochs = 7\ndropout = 0.3\n[ranking]\nepochs = 1\n")
    given = [*arguments(tmp_path), "--settings", str(tmp_path / "settings.toml")]
    result = CliRunner().invoke(app, given, catch_exceptions=False)
    assert result.exit_code == 0
    [manifest] = (tmp_path / "releases").glob("*/manifest.json")
    settings = json.loads(manifest.read_text())["training"]["settings"]
    assert [settings["candidate"][name] for name in ("epochs", "dropout", "embedding_dim")] == [2, 0.3, 16]
    assert settings["ranking"]["epochs"] == 1


def test_by_default_settings_follow_from_the_log_and_what_is_given_wins(app: typer.Typer, tmp_path: Path) -> None:
    write_planted_log(tmp_path / "log.csv")
    (tmp_path / "settings.toml").write_text("[candidate]\nshuffled_copies = 1\n[ranking]\nepochs = 1\n")
    given = [*arguments(tmp_path), "--preset", "auto", "--settings", str(tmp_path / "settings.toml")]
    result = CliRunner().invoke(app, given, catch_exceptions=False)
    decision = "shuffled histories): one average of all watches"
    assert "the order of the watches says nothing (" in result.output
    assert decision in result.output
    assert result.output.index(decision) < result.output.index("Plan: about ")
    [manifest] = (tmp_path / "releases").glob("*/manifest.json")
    training = json.loads(manifest.read_text())["training"]
    assert training["settings"]["candidate"]["options"]["history"]["bag_decays"] == [0.0]
    assert training["settings"]["candidate"]["shuffled_copies"] == 1
    assert training["settings"]["candidate"]["epochs"] == 2
    assert training["settings"]["seed"] == 3
    assert training["automatic"]["statistics"]["watch_count"] == 800
    assert decision in "\n".join(training["automatic"]["decisions"])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[candidate]\nepoch = 7\n", "there is no setting candidate.epoch; did you mean candidate.epochs?"),
        ("[ranking]\nembedding_dim = 8\n", "the ranking network's embedding_dim is 8: with matching it must be 16"),
    ],
)
def test_settings_that_cannot_be_are_one_line_before_training(
    app: typer.Typer, tmp_path: Path, text: str, message: str
) -> None:
    write_planted_log(tmp_path / "log.csv")
    (tmp_path / "settings.toml").write_text(text)
    result = CliRunner().invoke(app, [*arguments(tmp_path), "--settings", str(tmp_path / "settings.toml")])
    assert result.exit_code == 1
    assert message in result.output
    assert "Traceback" not in result.output
    assert "epoch 1" not in result.output


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
    assert "was made with other settings or data" in result.output


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
    assert "cannot learn from impressions" in refused.output


@pytest.mark.parametrize("device", ["tpu", "cuda:x", "meta"])
def test_an_unknown_device_is_named(app: typer.Typer, tmp_path: Path, device: str) -> None:
    write_planted_log(tmp_path / "log.csv")
    result = CliRunner().invoke(app, [*arguments(tmp_path), "--device", device])
    assert result.exit_code == 2
    assert f"there is no device '{device}'" in result.output


@pytest.mark.parametrize("device", ["cuda", "cuda:1"])
def test_a_gpu_that_is_not_there_is_named(
    app: typer.Typer, tmp_path: Path, device: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_planted_log(tmp_path / "log.csv")
    monkeypatch.setattr("torch.cuda.device_count", lambda: 0)
    result = CliRunner().invoke(app, [*arguments(tmp_path), "--device", device])
    assert result.exit_code == 2
    assert f"there is no {device}" in result.output


@pytest.mark.parametrize("name", ["releases", "checkpoints"])
def test_a_directory_that_cannot_be_written_is_named_before_training(
    app: typer.Typer, tmp_path: Path, name: str
) -> None:
    write_planted_log(tmp_path / "log.csv")
    (tmp_path / name).write_text("a file, not a directory")
    result = CliRunner().invoke(app, arguments(tmp_path))
    assert result.exit_code == 1
    assert f"{tmp_path / name}: File exists" in result.output.replace("\n", "")
    assert "epoch" not in result.output


def test_a_full_disk_is_explained(app: typer.Typer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)")

    write_planted_log(tmp_path / "log.csv")
    for function in ("winnow.training.checkpoint.save_file", "winnow.release.models.writer.save_tensors"):
        with monkeypatch.context() as patched:
            patched.setattr(function, fail)
            result = CliRunner().invoke(app, arguments(tmp_path))
        assert result.exit_code == 1
        assert "cannot be written: Error while serializing: I/O error: No space left on device" in result.output
        assert not list((tmp_path / "releases").iterdir())


def test_a_log_in_which_nobody_has_three_watches_is_refused_before_training(app: typer.Typer, tmp_path: Path) -> None:
    lines = [f"user {user},item {item},{item}" for user in range(20) for item in range(2)]
    (tmp_path / "log.csv").write_text("\n".join(["user_id,item_id,timestamp", *lines]) + "\n")
    result = CliRunner().invoke(app, arguments(tmp_path))
    assert result.exit_code == 1
    assert "log.csv: too few watches: no user has one to hold out" in result.output
    assert "epoch" not in result.output
    assert not any((tmp_path / "checkpoints").iterdir())


def test_an_item_id_that_no_request_may_hold_is_refused(app: typer.Typer, tmp_path: Path) -> None:
    write_planted_log(tmp_path / "log.csv")
    with (tmp_path / "log.csv").open("a") as log:
        log.write(f"user 0,{'x' * 513},99\n")
    result = CliRunner().invoke(app, arguments(tmp_path))
    assert result.exit_code == 1
    assert "log.csv: column item_id, line 962: 'xxx" in result.output
    assert "is longer than 512 bytes" in result.output


def test_types_that_cannot_be_read_are_refused(app: typer.Typer, tmp_path: Path) -> None:
    result = CliRunner().invoke(app, [*arguments(tmp_path), "--attribute-types", "year:integer"])
    assert result.exit_code == 2
    assert "'year:integer' is not a column and its type" in " ".join(result.output.replace("│", " ").split())


def test_types_are_shown_and_given_ones_win(app: typer.Typer, tmp_path: Path) -> None:
    write_planted_log(tmp_path / "log.csv")
    lines = [f"item {row},Title {row},{row},x|y" for row in range(40)]
    (tmp_path / "items.csv").write_text("\n".join(["item_id,title,shelf,genres", *lines]) + "\n")
    given = ["--items", str(tmp_path / "items.csv"), "--attribute-types", "shelf:text"]
    result = CliRunner().invoke(app, [*arguments(tmp_path), *given])
    assert result.exit_code == 0, result.output
    assert "attribute shelf: text (given)" in result.output
    assert "attribute genres: list (40 of 40 values have a '|', between 2 different texts)" in result.output


@pytest.mark.parametrize("impressions", [False, True], ids=["on watches", "on impressions"])
def test_a_release_that_was_trained_for_new_items_takes_them(
    app: typer.Typer, tmp_path: Path, impressions: bool
) -> None:
    """Both networks answer about a new item, and the derived release passes its golden requests."""
    write_planted_log(tmp_path / "log.csv")
    write_planted_impressions(tmp_path)
    given = ["--items", str(tmp_path / "items.csv"), "--new-items-by", "category, author", "--ranking-epochs", "1"]
    if impressions:
        given += ["--impressions", str(tmp_path / "impressions.csv")]
    result = CliRunner().invoke(app, [*arguments(tmp_path), *given], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    releases, new = tmp_path / "releases", tmp_path / "new.csv"
    new.write_text("item_id,title,author,category,uploaded,duration_seconds\nnew,New,author 3,1,5000,70\n")
    derive = typer.Typer()
    derive.command()(items)
    command = ["--releases", str(releases), "--items", str(new), "--publish"]
    result = CliRunner().invoke(derive, command, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    release = open_current_release(releases)
    golden = release.golden_requests()
    retriever, ranker = Retriever.from_release(release, CPU), Ranker.from_release(release, CPU)
    retriever.check_golden(golden)
    ranker.check_golden(golden)
    row = release.manifest.item_count - 1
    history = WatchHistories.from_lists([[row]])
    found = retriever.retrieve(
        RetrievalQuery(histories=history, counts=np.array([row], dtype=np.int32), exclusions=history)
    )
    assert np.isfinite(found.scores).all()
    candidates = RaggedRows.from_lists([[row, 0]])
    contexts = RequestContexts.unknown(1) if release.manifest.ranking_reads_contexts else None
    assert np.isfinite(ranker.rank(RankingQuery(histories=history, candidates=candidates, contexts=contexts))).all()


@pytest.mark.parametrize(
    ("with_items", "message"),
    [(True, "there is no attribute genre; there are title, author"), (False, "--new-items-by needs --items")],
)
def test_an_attribute_that_is_not_there_is_named_before_training(
    app: typer.Typer, tmp_path: Path, with_items: bool, message: str
) -> None:
    write_planted_log(tmp_path / "log.csv")
    write_planted_impressions(tmp_path)
    items_file = ["--items", str(tmp_path / "items.csv")] if with_items else []
    result = CliRunner().invoke(app, [*arguments(tmp_path), "--new-items-by", "genre", *items_file])
    assert result.exit_code != 0
    assert message in " ".join(result.output.replace("│", " ").split())
    assert "epoch" not in result.output


def write_successions(directory: Path) -> None:
    """A log in which what follows is all there is to know."""
    histories = planted_successions(1, share=0.9)
    lines = [
        f"user {user},item {row},{second}"
        for user in range(len(histories))
        for second, row in enumerate(histories[user].tolist())
    ]
    (directory / "log.csv").write_text("\n".join(["user_id,item_id,timestamp", *lines]) + "\n")


WEAK = ["--candidate-epochs", "1", "--ranking-epochs", "1"]
UNLEARNED = replace(
    TINY,
    candidate=replace(TINY.candidate, learning_rate=1e-9),
    ranking=replace(TINY.ranking, learning_rate=1e-9, neighbours=False),
)


def test_a_release_that_is_worse_than_a_baseline_is_written_but_not_current(
    app: typer.Typer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_successions(tmp_path)
    monkeypatch.setitem(presets.PRESETS, "tiny", UNLEARNED)
    result = CliRunner().invoke(app, [*arguments(tmp_path), *WEAK])
    assert result.exit_code == 3, result.output
    assert "worse than succession-knn, the best baseline" in result.output
    assert "but is not current" in result.output
    assert "--resume --publish always" in result.output
    [manifest] = (tmp_path / "releases").glob("*/manifest.json")
    [rival] = json.loads(manifest.read_text())["training"]["compared_with"]
    assert rival["high"] < 0
    assert not (tmp_path / "releases" / "CURRENT").exists()
    told = CliRunner().invoke(app, [*arguments(tmp_path), *WEAK, "--resume", "--publish", "always"])
    assert told.exit_code == 0, told.output
    assert "is current in" in told.output
    assert (tmp_path / "releases" / "CURRENT").exists()


def test_a_release_that_is_worse_than_the_current_one_does_not_take_its_place(
    app: typer.Typer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_planted_log(tmp_path / "log.csv")
    good = CliRunner().invoke(app, [*arguments(tmp_path), "--candidate-epochs", "8", "--publish", "always"])
    assert good.exit_code == 0, good.output
    current = (tmp_path / "releases" / "CURRENT").read_text()
    # Without its baselines, which the weaker release would not pass either, and what ranking takes from them.
    monkeypatch.setattr("winnow.training.train_on_watches.learn_rivals", lambda *_: {})
    monkeypatch.setitem(presets.PRESETS, "tiny", UNLEARNED)
    worse = CliRunner().invoke(app, [*arguments(tmp_path), *WEAK])
    assert worse.exit_code == 3, worse.output
    assert f"worse than the current release {current.strip()}" in worse.output
    assert (tmp_path / "releases" / "CURRENT").read_text() == current
    never = CliRunner().invoke(app, [*arguments(tmp_path), *WEAK, "--publish", "never"])
    assert never.exit_code == 0, never.output
    assert (tmp_path / "releases" / "CURRENT").read_text() == current


def test_a_current_release_of_another_split_or_that_cannot_be_read_is_not_compared(
    app: typer.Typer, tmp_path: Path
) -> None:
    write_planted_log(tmp_path / "log.csv")
    assert CliRunner().invoke(app, [*arguments(tmp_path), "--publish", "always"]).exit_code == 0
    given = [*arguments(tmp_path), "--split", "global-time", "--publish", "always"]
    other = CliRunner().invoke(app, given)
    assert other.exit_code == 0, other.output
    assert "is not compared: its split is leave-last-out" in other.output
    (tmp_path / "releases" / "CURRENT").write_text("20260101T000000Z-000000000000\n")
    unreadable = CliRunner().invoke(app, given)
    assert unreadable.exit_code == 0, unreadable.output
    assert "The current release is not compared: release 20260101T000000Z-000000000000" in unreadable.output


def test_the_report_shows_the_baselines_and_what_ranking_adds(app: typer.Typer, tmp_path: Path) -> None:
    write_planted_log(tmp_path / "log.csv")
    result = CliRunner().invoke(app, [*arguments(tmp_path), "--publish", "always"])
    assert result.exit_code == 0, result.output
    for name in ("popularity", "succession-knn", "ease", "candidate", "chain"):
        assert result.output.count(f"│ {name}") == 2
    assert "ranking network: weights of its corrections of the candidates' order: tower " in result.output
    assert "test: ranking adds to the order of the candidates: HR@10" in result.output
    [manifest] = (tmp_path / "releases").glob("*/manifest.json")
    written = json.loads(manifest.read_text())
    assert set(written["training"]["correction_factors"]) == {"tower", "successions"}
    assert set(written["figures"]["test"]) == {
        *("popularity", "succession-knn", "ease", "candidate", "chain", "gain_of_ranking")
    }
