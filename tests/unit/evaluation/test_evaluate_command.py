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
from winnow.training.run import RunPaths, run


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("evaluated")
    write_planted_log(directory / "log.csv")
    paths = RunPaths(
        interactions=directory / "log.csv",
        items=None,
        releases=directory / "releases",
        checkpoints=directory / "checkpoints",
    )
    run(paths, TINY, resume=False, device=torch.device("cpu"), console=Console(file=StringIO()))
    return directory


def evaluate(directory: Path, *arguments: str, log: str = "log.csv") -> tuple[int, str]:
    command = ["evaluate", f"--release={directory / 'releases'}", f"--interactions={directory / log}", *arguments]
    result = CliRunner().invoke(app, command, env={"COLUMNS": "240"})
    return result.exit_code, result.output


def test_the_release_and_the_baselines_are_compared(trained: Path, tmp_path: Path) -> None:
    code, text = evaluate(trained, f"--report={tmp_path / 'report.html'}", f"--figures={tmp_path / 'figures.json'}")
    assert code == 0, text
    figures = json.loads((tmp_path / "figures.json").read_text())
    assert set(figures) == {"validation", "test"}
    assert set(figures["test"]) == {"candidate stage", "chain", "popularity", "item-knn", "ease", "als"}
    assert figures["test"]["chain"]["mrr"] > 1.5 * figures["test"]["popularity"]["mrr"]
    assert "test: the held-out watch of each user" in text
    page = (tmp_path / "report.html").read_text()
    assert page.count("data:image/png;base64,") == 3
    for name in figures["test"]:
        assert f"<td>{name}</td>" in page


def test_figures_are_those_that_training_reported(trained: Path, tmp_path: Path) -> None:
    code, text = evaluate(trained, "--baseline=none", "--part=test", f"--figures={tmp_path / 'figures.json'}")
    assert code == 0, text
    manifest = json.loads(next((trained / "releases").glob("*/manifest.json")).read_text())
    found = json.loads((tmp_path / "figures.json").read_text())
    assert set(found) == {"test"}
    for ours, theirs in (("candidate stage", "candidate"), ("chain", "chain")):
        for name in ("hr_at_10", "ndcg_at_10", "mrr"):
            assert found["test"][ours][name] == pytest.approx(manifest["figures"]["test"][theirs][name])


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
