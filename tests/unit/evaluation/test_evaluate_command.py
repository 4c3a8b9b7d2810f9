import dataclasses
import json
from io import StringIO
from pathlib import Path

import pytest
import torch
from rich.console import Console
from typer.testing import CliRunner

from tests.unit.training.planted import write_planted_log
from tests.unit.training.settings import TINY
from winnow.cli import app
from winnow.training.presets import TrainingSettings
from winnow.training.run import RunPaths, run

RECOMMENDERS = {"candidate", "chain", "popularity", "item_knn", "ease", "als"}


def train(directory: Path, settings: TrainingSettings) -> None:
    write_planted_log(directory / "log.csv")
    paths = RunPaths(
        interactions=directory / "log.csv",
        items=None,
        releases=directory / "releases",
        checkpoints=directory / "checkpoints",
    )
    run(paths, settings, resume=False, device=torch.device("cpu"), console=Console(file=StringIO()))


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
    assert set(figures) == {"split", "seed", "validation", "test"}
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
