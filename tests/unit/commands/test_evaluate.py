import contextlib
import dataclasses
import json
import re
from io import StringIO
from pathlib import Path

import pytest
import torch
from rich.console import Console
from typer.testing import CliRunner

from tests.unit.training.planted import write_planted_impressions, write_planted_log
from tests.unit.training.settings import TINY
from winnow.cli import app
from winnow.evaluation import baselines
from winnow.logs.item_changes import no_changes
from winnow.release.models.derivation import derive_release
from winnow.release.reader import open_current_release
from winnow.training.presets import TrainingSettings
from winnow.training.run import RunPaths, run

RECOMMENDERS = {"candidate", "chain", "popularity", "succession_knn", "item_knn", "ease", "als"}


def train(directory: Path, settings: TrainingSettings, *, impressions: bool = False) -> None:
    write_planted_log(directory / "log.csv")
    write_planted_impressions(directory)
    paths = RunPaths(
        interactions=directory / "log.csv",
        items=None,
        impressions=directory / "impressions.csv" if impressions else None,
        releases=directory / "releases",
        checkpoints=directory / "checkpoints",
    )
    run(
        paths,
        settings,
        resume=False,
        device=torch.device("cpu"),
        console=Console(file=StringIO()),
        publish="always",
    )


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("evaluated")
    train(directory, TINY)
    return directory


def evaluate(directory: Path, *arguments: str, log: str = "log.csv") -> tuple[int, str]:
    command = ["evaluate", f"--release={directory / 'releases'}", f"--interactions={directory / log}", *arguments]
    result = CliRunner().invoke(app, command, env={"COLUMNS": "240"})
    return result.exit_code, result.output


def test_the_release_and_the_baselines_are_compared(trained: Path, tmp_path: Path) -> None:
    code, text = evaluate(trained, f"--report={tmp_path / 'report.html'}", f"--figures={tmp_path / 'figures.json'}")
    assert code == 0, text
    figures = json.loads((tmp_path / "figures.json").read_text())
    assert set(figures) == {
        "split",
        "seed",
        "correction_factors",
        "candidate_neighbours",
        "neighbour_weights",
        "validation",
        "test",
    }
    assert set(figures["test"]) == RECOMMENDERS | {
        "gain_of_ranking",
        "calibration",
        "by_history_length",
        "by_popularity",
    }
    assert figures["test"]["chain"]["mrr"] > 1.5 * figures["test"]["popularity"]["mrr"]
    chain, candidate = figures["test"]["chain"], figures["test"]["candidate"]
    difference = chain["hr_at_10"] - candidate["hr_at_10"]
    assert figures["test"]["gain_of_ranking"]["hr_at_10"] == pytest.approx(difference, abs=1e-3)
    groups = figures["test"]["by_popularity"]["ease"].values()
    assert sum(group["share_of_watches"] for group in groups) == pytest.approx(1, abs=1e-3)
    assert "test: held-out watches among all unseen items" in text
    assert "test: ranking adds to the order of the candidates" in text
    assert "Of the ranking network's correction, the chain uses" in text
    page = (tmp_path / "report.html").read_text()
    assert page.count("data:image/png;base64,") == 5
    for name in RECOMMENDERS:
        assert f"<td>{name.replace('_', '-')}</td>" in page


def test_figures_are_those_that_training_reported(trained: Path, tmp_path: Path) -> None:
    code, text = evaluate(trained, "--baseline=none", "--part=test", f"--figures={tmp_path / 'figures.json'}")
    assert code == 0, text
    manifest = json.loads(next((trained / "releases").glob("*/manifest.json")).read_text())
    found = json.loads((tmp_path / "figures.json").read_text())
    assert "validation" not in found
    for stage in ("candidate", "chain"):
        for name in ("hr_at_10", "hr_at_200", "ndcg_at_10", "mrr"):
            assert found["test"][stage][name] == pytest.approx(manifest["figures"]["test"][stage][name], rel=1e-3)


def test_the_gain_from_what_callers_send_is_a_row_each(trained: Path, tmp_path: Path) -> None:
    code, text = evaluate(
        trained, "--baseline=none", "--part=validation", "--withhold", f"--figures={tmp_path / 'figures.json'}"
    )
    assert code == 0, text
    found = json.loads((tmp_path / "figures.json").read_text())["validation"]
    for stage in ("candidate", "chain"):
        for what in ("weights", "timestamps", "either"):
            assert 0 < found[f"{stage}_without_{what}"]["mrr"] <= 1
        # The log gives all watches one weight and their times: withholding both has to change the lists.
        assert found[f"{stage}_without_either"] != found[stage]


def test_a_release_of_a_split_by_time_is_measured_on_that_split(tmp_path: Path) -> None:
    train(tmp_path, dataclasses.replace(TINY, split="global-time"))
    code, text = evaluate(
        tmp_path,
        "--baseline=popularity",
        f"--figures={tmp_path / 'figures.json'}",
        f"--report={tmp_path / 'page.html'}",
    )
    assert code == 0, text
    found = json.loads((tmp_path / "figures.json").read_text())
    [manifest] = (tmp_path / "releases").glob("*/manifest.json")
    figures = json.loads(manifest.read_text())["figures"]
    for part in ("validation", "test"):
        for stage in ("candidate", "chain"):
            assert found[part][stage]["ndcg_at_10"] == pytest.approx(figures[part][stage]["ndcg_at_10"], rel=1e-3)
    assert found["split"].startswith("watches before 1970-01-01 00:00:09 UTC are trained on")
    assert "held-out watches of 80 users (test)" in (tmp_path / "page.html").read_text()


def test_figures_are_put_beside_those_that_a_file_has(trained: Path, tmp_path: Path) -> None:
    path = tmp_path / "figures.json"
    path.write_text('{"other": 1, "ours": 2}')
    code, text = evaluate(trained, "--baseline=none", "--part=test", f"--figures={path}", "--section=ours")
    assert code == 0, text
    found = json.loads(path.read_text())
    assert found["other"] == 1
    assert "chain" in found["ours"]["test"]


@pytest.fixture(scope="module")
def trained_on_impressions(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("impressions")
    train(directory, TINY, impressions=True)
    return directory


def test_ranking_that_learned_from_impressions_is_measured_on_later_ones(
    trained_on_impressions: Path, tmp_path: Path
) -> None:
    """Its score is an expected watch time: no probability of the next watch, and no order of the candidates for it."""
    code, text = evaluate(
        trained_on_impressions,
        f"--impressions={trained_on_impressions / 'impressions.csv'}",
        "--baseline=popularity",
        "--withhold",
        f"--report={tmp_path / 'report.html'}",
        f"--figures={tmp_path / 'figures.json'}",
    )
    assert code == 0, text
    assert "test: ranking, and so the chain, is not measured on watches" in text
    assert "test: ranking on later impressions" in text
    found = json.loads((tmp_path / "figures.json").read_text())
    [manifest] = (trained_on_impressions / "releases").glob("*/manifest.json")
    reported = json.loads(manifest.read_text())["figures"]
    for part in ("validation", "test"):
        assert set(found[part]) == {
            *("candidate", "candidate_without_weights", "candidate_without_timestamps", "candidate_without_either"),
            *("popularity", "impressions", "by_history_length", "by_popularity"),
        }
        # The split is that of the training: figures are the same.
        assert found[part]["impressions"] == pytest.approx(reported[part]["impressions"], rel=1e-3)
        assert found[part]["candidate"]["hr_at_10"] == pytest.approx(reported[part]["candidate"]["hr_at_10"], rel=1e-3)
    page = (tmp_path / "report.html").read_text()
    assert "weighted per user loss" in page
    assert page.count("data:image/png;base64,") == 4
    assert "Calibration" not in page


def test_a_release_of_impressions_is_not_measured_without_them(trained_on_impressions: Path, tmp_path: Path) -> None:
    code, text = evaluate(trained_on_impressions)
    assert code == 1
    assert "was trained on impressions" in text
    assert "--impressions" in text
    other = tmp_path / "other.csv"
    lines = (trained_on_impressions / "impressions.csv").read_text().splitlines()
    other.write_text("\n".join(lines[:-1]) + "\n")
    code, text = evaluate(trained_on_impressions, f"--impressions={other}")
    assert code == 1
    assert "other.csv is not what release" in text


def test_a_release_of_watches_is_not_measured_on_impressions(trained: Path) -> None:
    code, text = evaluate(trained, f"--impressions={trained / 'impressions.csv'}")
    assert code == 1
    assert "was not trained on impressions: leave out --impressions" in text


def test_a_report_that_cannot_be_written_is_an_error_of_one_line(trained: Path) -> None:
    code, text = evaluate(
        trained, "--baseline=none", "--part=test", f"--figures={trained / 'log.csv' / 'figures.json'}"
    )
    assert code == 1
    assert "figures.json: Not a directory" in text


def test_another_log_is_refused(trained: Path) -> None:
    lines = (trained / "log.csv").read_text().splitlines()
    (trained / "other.csv").write_text("\n".join(lines[:-1]) + "\n")
    code, text = evaluate(trained, log="other.csv")
    assert code == 1
    assert "is not what release" in text


def test_an_unknown_baseline_is_refused(trained: Path) -> None:
    code, text = evaluate(trained, "--baseline=magic")
    assert code == 2
    assert "there is no 'magic'" in text


def test_figures_are_saved_as_they_come(trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was measured before a run was stopped is not lost."""

    def stopped(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setitem(baselines.BASELINES, "ease", stopped)
    path = tmp_path / "figures.json"
    with contextlib.suppress(KeyboardInterrupt):
        evaluate(trained, "--part=test", "--baseline=popularity", "--baseline=ease", f"--figures={path}")
    found = json.loads(path.read_text())["test"]
    assert {"candidate", "chain", "popularity", "gain_of_ranking"} <= set(found)
    assert "ease" not in found


def test_a_baseline_that_does_not_fit_is_left_out_with_a_word(
    trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(baselines, "DENSE_ITEM_LIMIT", 39)
    path = tmp_path / "figures.json"
    code, text = evaluate(trained, "--part=test", "--baseline=ease", "--baseline=popularity", f"--figures={path}")
    assert code == 0, text
    assert "ease is left out: 40 items are too many for EASE" in text
    found = json.loads(path.read_text())
    assert "at most 39" in found["left_out"]["ease"]
    assert "popularity" in found["test"]


def test_retired_items_are_left_out_of_every_ranking(trained: Path, tmp_path: Path) -> None:
    release = open_current_release(trained / "releases")
    everybody = ["item 0", "item 1", "item 2"]
    made = derive_release(release, no_changes(), retire=everybody, restore=(), make_current=False)
    command = ["evaluate", f"--release={trained / 'releases' / made.release_id}"]
    command += [f"--interactions={trained / 'log.csv'}", "--part=test", f"--report={tmp_path / 'report.html'}"]
    result = CliRunner().invoke(app, command, env={"COLUMNS": "240"})
    assert result.exit_code == 0, result.output
    said = re.search(r"Retired items are in no list, whoever makes it: 3. .* finds: (\d+) of the test", result.output)
    assert said is not None, result.output
    assert 0 < int(said[1]) < 80
    assert said[0] in (tmp_path / "report.html").read_text()
