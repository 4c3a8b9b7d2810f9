from io import StringIO
from pathlib import Path

import pytest
import torch
from rich.console import Console

from tests.unit.training.planted import write_planted_log
from tests.unit.training.settings import TINY
from winnow.training.report import figures_table
from winnow.training.run import RunPaths, RunResult, run
from winnow.training.tables import InteractionLogError


def run_in(directory: Path, name: str, *, resume: bool = False) -> RunResult:
    log = directory / "log.csv"
    if not log.exists():
        write_planted_log(log)
    paths = RunPaths(
        interactions=log, items=None, releases=directory / name, checkpoints=directory / f"{name}-checkpoints"
    )
    return run(paths, TINY, resume=resume, device=torch.device("cpu"), console=Console(file=StringIO()))


def test_the_same_data_and_seed_give_the_same_figures(tmp_path: Path) -> None:
    first, second = run_in(tmp_path, "first"), run_in(tmp_path, "second")
    assert first.figures == second.figures
    assert set(first.figures) == {"validation", "test"}
    assert first.figures["test"]["chain"]["mrr"] > 1.5 * first.figures["test"]["popularity"]["mrr"]
    resumed = run_in(tmp_path, "first", resume=True)
    assert resumed.figures == first.figures


def test_nothing_is_written_when_the_log_is_unusable(tmp_path: Path) -> None:
    (tmp_path / "log.csv").write_text("user_id,item_id,timestamp\nu,i,soon\n")
    with pytest.raises(InteractionLogError, match="line 2"):
        run_in(tmp_path, "releases")
    assert [path.name for path in tmp_path.iterdir()] == ["log.csv"]


def test_figures_are_shown(tmp_path: Path) -> None:
    shown = StringIO()
    Console(file=shown, width=100).print(figures_table("test", run_in(tmp_path, "releases").figures["test"]))
    assert "HR@10" in shown.getvalue()
    assert "chain" in shown.getvalue()
