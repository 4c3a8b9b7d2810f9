"""Measures the cells of studies one after the other and keeps every finished one, so that a run can be stopped.

A data set's module (see ablations/movielens.py) builds studies; the command (ablations/__main__.py) runs and reports
them:

    Study(name="movielens-grid", title=..., about=..., figures={"hr_at_10": "HR@10"}, cells=[
        Cell(name="plain-0", labels={"features": "plain average", "hidden layers": "0"}, settings={...}, measure=...),
    ])

Cells of equal settings are measured once. `measure(scratch)` returns figures by name; it may keep checkpoints in the
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


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One measurement: `measure` is run unless there are figures of the same settings already."""

    # Unique in its study.
    name: str
    # What tells it from the other cells: the first columns of the table, the same keys in every cell of a study.
    labels: Mapping[str, str]
    # JSON values that the figures depend on: options, epochs, seed, the data's fingerprint. The code is not among them.
    settings: Mapping[str, Any]
    measure: Callable[[Path], Mapping[str, float]]

    @property
    def fingerprint(self) -> str:
        """A SHA-256 of the settings."""
        return hashlib.sha256(json.dumps(self.settings, sort_keys=True).encode()).hexdigest()


@dataclass(frozen=True, kw_only=True)
class GridPlot:
    """A figure over the values of one label, a line for each value of another, in the order of the cells."""

    across: str
    lines: str
    figure: str


@dataclass(frozen=True, kw_only=True)
class Study:
    """Cells that stand in one table."""

    # Unique; the name of its plots.
    name: str
    title: str
    # Markdown: what is varied, what is not, and how to read it.
    about: str
    # Headings of the figures' columns by name, in order; `measure` may return more, which only the JSON has.
    figures: Mapping[str, str]
    cells: Sequence[Cell]
    plots: Sequence[GridPlot] = ()


@dataclass(frozen=True, kw_only=True)
class Finished:
    """A cell with its figures, and how long they took on whatever else the machine did."""

    cell: Cell
    figures: Mapping[str, float]
    seconds: float


class ResultFolder:
    """One JSON file a finished cell, named by the fingerprint of its settings: cells of equal settings share one."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def load(self, cell: Cell) -> Finished | None:
        """Return the cell with the figures that are kept of its settings; None where there are none."""
        try:
            kept = json.loads(self._path(cell).read_text())
        except FileNotFoundError:
            return None
        return Finished(cell=cell, figures=kept["figures"], seconds=kept["seconds"])

    def keep(self, finished: Finished) -> None:
        """Write the file, replaced atomically."""
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
        """Return the folder that a cell may use while it is measured."""
        return self._path(cell).with_suffix("")

    def _path(self, cell: Cell) -> Path:
        return self._directory / f"{cell.fingerprint[:32]}.json"


def measure_all(studies: Sequence[Study], results: ResultFolder, console: Console) -> None:
    """Measure every cell that has no result yet, in order. Raises ValueError where two have the same name."""
    wanted = [(study, cell) for study in studies for cell in study.cells]
    names = [(study.name, cell.name) for study, cell in wanted]
    if len(set(names)) < len(names):
        raise ValueError(f"two cells have one name: {sorted(name for name in names if names.count(name) > 1)}")
    missing = {cell.fingerprint: (study, cell) for study, cell in wanted if results.load(cell) is None}
    console.print(f"{len(wanted)} cells, {len(missing)} of them to be measured", soft_wrap=True)
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
    """Return the cells of a study that have figures, in order."""
    kept = (results.load(cell) for cell in study.cells)
    return [finished for finished in kept if finished is not None]


def _measured(cell: Cell, scratch: Path) -> Finished:
    scratch.mkdir(parents=True, exist_ok=True)
    began = time.monotonic()
    figures = dict(cell.measure(scratch))
    shutil.rmtree(scratch)
    return Finished(cell=cell, figures=figures, seconds=round(time.monotonic() - began, 1))
