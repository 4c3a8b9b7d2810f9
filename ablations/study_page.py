"""What was measured, for machines (docs/ablations.json) and for people (docs/ablations.md, plots).

The page is written from the JSON, in which a study stays as it was until it is measured again.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ablations.runner import Finished, GridPlot, Study

PAGE_HEAD = """# Ablations

What each option adds, as in the paper's Figure 6. `make ablations` measures all of it, resumes where it was stopped,
and writes this page, [ablations.json](ablations.json) (every figure and every setting) and the plots.
"""


def write(docs: Path, studies: Sequence[tuple[Study, Sequence[Finished]]], machine: Mapping[str, Any]) -> None:
    """Add or replace these studies in `docs`/ablations.json, draw their plots, and write the page anew."""
    path = docs / "ablations.json"
    everything = json.loads(path.read_text()) if path.exists() else {"studies": {}}
    for study, cells in studies:
        if not cells:
            continue
        everything["studies"][study.name] = _as_json(study, cells, machine)
        for plot in study.plots:
            plot_path = docs / "ablations" / _plot_name(study.name, plot.figure)
            plot_path.parent.mkdir(parents=True, exist_ok=True)
            _draw(study, plot, cells, plot_path)
    docs.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(everything, indent=1) + "\n")
    (docs / "ablations.md").write_text("\n".join([PAGE_HEAD, *map(_section, everything["studies"].values())]))


def _as_json(study: Study, cells: Sequence[Finished], machine: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "title": study.title,
        "about": study.about,
        "headings": dict(study.figures),
        "plots": [_plot_name(study.name, plot.figure) for plot in study.plots],
        "machine": dict(machine),
        "planned_cell_count": len(study.cells),
        "cells": [
            {
                "name": finished.cell.name,
                "labels": dict(finished.cell.labels),
                "settings": dict(finished.cell.settings),
                "figures": {key: round(value, 5) for key, value in finished.figures.items()},
                "seconds": finished.seconds,
            }
            for finished in cells
        ],
    }


def _section(study: Mapping[str, Any]) -> str:
    headings, cells, machine = study["headings"], study["cells"], study["machine"]
    columns = [*cells[0]["labels"], *headings.values()]
    lines = [f"## {study['title']}", "", study["about"].strip(), ""]
    for name in study["plots"]:
        lines += [f"![{study['title']}](ablations/{name})", ""]
    lines += ["| " + " | ".join(columns) + " |", "|" + "---|" * len(columns)]
    for cell in cells:
        figures = [f"{cell['figures'][key]:.4f}" for key in headings]
        lines.append("| " + " | ".join([*cell["labels"].values(), *figures]) + " |")
    if len(cells) < study["planned_cell_count"]:
        lines += ["", f"{len(cells)} of {study['planned_cell_count']} planned rows have been measured so far."]
    lines += ["", f"{machine['cores']} cores of {machine['processor']}, torch {machine['packages']['torch']}.", ""]
    return "\n".join(lines)


def _plot_name(study: str, figure: str) -> str:
    return f"{study}-{figure.replace('_', '-')}.png"


def _draw(study: Study, plot: GridPlot, cells: Sequence[Finished], path: Path) -> None:
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(figsize=(8, 5), layout="constrained")
    places = list(dict.fromkeys(finished.cell.labels[plot.across] for finished in cells))
    for line in dict.fromkeys(finished.cell.labels[plot.lines] for finished in cells):
        points = {
            places.index(finished.cell.labels[plot.across]): finished.figures[plot.figure]
            for finished in cells
            if finished.cell.labels[plot.lines] == line
        }
        axes.plot(list(points), list(points.values()), marker="o", label=line)
    axes.set_xticks(range(len(places)), places)
    axes.set_xlabel(plot.across)
    axes.set_ylabel(study.figures[plot.figure])
    axes.set_title(study.title)
    axes.grid(visible=True, alpha=0.3)
    # The first line of the legend is the highest one, where options are added one by one.
    handles, labels = axes.get_legend_handles_labels()
    axes.legend(handles[::-1], labels[::-1], loc="center left", bbox_to_anchor=(1, 0.5))
    figure.savefig(path, dpi=110)
    plt.close(figure)
