"""Measures the cells of studies one after the other and keeps every finished one, so that a run can be stopped.

The module of a data set (such as ablations/movielens.py) builds studies; the command (ablations/__main__.py) measures
and reports them:

    Study(name="movielens-grid", title=..., about=..., figures={"hr_at_10": "HR@10"}, cells=[
        Cell(name="plain-0", labels={"features": "plain average", "hidden layers": "0"}, settings={...}, measure=...),
    ])

Cells with equal settings are measured once. `measure(scratch)` returns figures by name. It may keep checkpoints in the
folder `scratch`, which belongs to these settings alone and is removed when the cell is finished.
"""

import hashlib
import json
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console


def fingerprint(settings: Mapping[str, Any]) -> str:
    """Return the SHA-256 of a cell's settings, whether they are Python values or were read from JSON."""
    return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One measurement. `measure` runs unless there are already figures for the same settings."""

    # Unique within its study.
    name: str
    # Distinguish it from other cells: the first columns of the table. All cells of a study have the same keys.
    labels: Mapping[str, str]
    # JSON values that the figures depend on: options, epochs, seed, fingerprint of the data. The code is not included.
    settings: Mapping[str, Any]
    measure: Callable[[Path], Mapping[str, float]]

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the settings."""
        return fingerprint(self.settings)


@dataclass(frozen=True, kw_only=True)
class GridPlot:
    """A plot of a figure over the values of one label, with a line per value of another, in the order of the cells."""

    across: str
    lines: str
    figure: str


@dataclass(frozen=True, kw_only=True)
class Study:
    """The cells of one table."""

    # Unique; plots are named after it.
    name: str
    title: str
    # Markdown: what varies, what does not, and how to read the table.
    about: str
    # Column heading by name of the figure, in order. Other figures that `measure` returns are in the JSON only.
    figures: Mapping[str, str]
    cells: Sequence[Cell]
    plots: Sequence[GridPlot] = ()


@dataclass(frozen=True, kw_only=True)
class Finished:
    """A measured cell. `seconds` is wall-clock time, whatever else the machine was doing."""

    cell: Cell
    figures: Mapping[str, float]
    seconds: float


class ResultFolder:
    """One JSON file per finished cell, named by the fingerprint of its settings; cells with equal settings share it."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def load(self, cell: Cell) -> Finished | None:
        """Return the cell with the figures kept for its settings, or None."""
        try:
            kept = json.loads(self._path(cell).read_text())
        except FileNotFoundError:
            return None
        return Finished(cell=cell, figures=kept["figures"], seconds=kept["seconds"])

    def keep(self, finished: Finished) -> None:
        """Write the file, replacing it atomically."""
        self._directory.mkdir(parents=True, exist_ok=True)
        content = {
            "name": finished.cell.name,
            "settings": finished.cell.settings,
            "figures": finished.figures,
            "seconds": finished.seconds,
        }
        path = self._path(finished.cell)
        partial = path.with_suffix(".partial")
        partial.write_text(json.dumps(content, indent=1) + "\n")
        partial.replace(path)

    def scratch(self, cell: Cell) -> Path:
        """Return the folder that the cell may use while it is measured."""
        return self._path(cell).with_suffix("")

    def _path(self, cell: Cell) -> Path:
        return self._directory / f"{cell.fingerprint[:32]}.json"


def measure_all(studies: Sequence[Study], results: ResultFolder, console: Console) -> None:
    """Measure every cell without a result, in order. Raises ValueError if two cells of a study have the same name."""
    wanted = [(study, cell) for study in studies for cell in study.cells]
    names = [(study.name, cell.name) for study, cell in wanted]
    if len(set(names)) < len(names):
        raise ValueError(f"cells with the same name: {sorted({name for name in names if names.count(name) > 1})}")
    missing = {cell.fingerprint: (study, cell) for study, cell in wanted if results.load(cell) is None}
    console.print(f"{len(wanted)} cells, {len(missing)} to measure", soft_wrap=True)
    began = time.monotonic()
    for number, (study, cell) in enumerate(missing.values()):
        remaining = ""
        if number:
            minutes = (time.monotonic() - began) / number * (len(missing) - number) / 60
            remaining = f", {minutes:.0f} min left"
        labels = ", ".join(f"{key}: {value}" for key, value in cell.labels.items())
        console.print(f"{study.name}, cell {number + 1} of {len(missing)}{remaining}: {labels}", soft_wrap=True)
        finished = _measured(cell, results.scratch(cell))
        results.keep(finished)
        shown = "  ".join(f"{heading} {finished.figures[key]:.4f}" for key, heading in study.figures.items())
        console.print(f"  {shown}  in {finished.seconds:.0f} s", soft_wrap=True)


def finished_cells(study: Study, results: ResultFolder) -> list[Finished]:
    """Return the measured cells of a study, in order."""
    kept = (results.load(cell) for cell in study.cells)
    return [finished for finished in kept if finished is not None]


def _measured(cell: Cell, scratch: Path) -> Finished:
    scratch.mkdir(parents=True, exist_ok=True)
    began = time.monotonic()
    figures = dict(cell.measure(scratch))
    shutil.rmtree(scratch)
    return Finished(cell=cell, figures=figures, seconds=round(time.monotonic() - began, 1))
