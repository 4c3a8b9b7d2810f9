"""A training run on the planted log."""

from io import StringIO
from pathlib import Path

from rich.console import Console

from tests.unit.training.settings import TINY
from winnow.release.reader import Release
from winnow.training.presets import TrainingSettings
from winnow.training.publishing import Publish
from winnow.training.run import RunPaths, RunResult, run
from winnow.training.run_context import CPU


def train_planted(
    directory: Path,
    settings: TrainingSettings = TINY,
    *,
    items: bool = False,
    impressions: bool = False,
    publish: Publish = "always",
    start: Release | None = None,
) -> RunResult:
    """Train on the files of a directory, and write a release into `releases` there."""
    paths = RunPaths(
        interactions=directory / "log.csv",
        items=directory / "items.csv" if items or impressions else None,
        impressions=directory / "impressions.csv" if impressions else None,
        releases=directory / "releases",
        checkpoints=directory / "checkpoints",
    )
    console = Console(file=StringIO())
    return run(paths, settings, resume=False, device=CPU, console=console, publish=publish, start=start)
