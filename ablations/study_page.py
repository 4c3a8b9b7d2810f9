"""Writes docs/ablations.json (for programs), docs/ablations.md and the plots (for people).

The page is written from the JSON. Cells that were not measured again keep their figures there.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ablations.runner import Finished, GridPlot, Study, fingerprint

PAGE_HEAD = """# Ablations

What each option adds, as in the paper's Figure 6. `make ablations` measures everything and continues where it was
stopped. It writes this page, its plots, and [ablations.json](ablations.json) with every figure and every setting.
"""


def write(docs: Path, studies: Sequence[tuple[Study, Sequence[Finished]]], machine: Mapping[str, Any]) -> None:
    """Update these studies in `docs`/ablations.json, draw their plots and rewrite the page.

    A study has the cells given here and, for those that are not, the published ones with the same settings. `machine`
    describes where the given cells were measured. A study without any cell stays as it is.
    """
    path = docs / "ablations.json"
    everything = json.loads(path.read_text()) if path.exists() else {"studies": {}}
    for study, measured in studies:
        published = everything["studies"].get(study.name, {"cells": [], "machine": machine})
        cells = _all_finished(study, measured, published["cells"])
        if not cells:
            continue
        everything["studies"][study.name] = _as_json(study, cells, machine if measured else published["machine"])
        for plot in study.plots:
            plot_path = docs / "ablations" / _plot_name(study.name, plot.figure)
            plot_path.parent.mkdir(parents=True, exist_ok=True)
            _draw(study, plot, cells, plot_path)
    docs.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(everything, indent=1) + "\n")
    (docs / "ablations.md").write_text(page(everything))


def page(everything: Mapping[str, Any]) -> str:
    """Return docs/ablations.md for the content of docs/ablations.json."""
    return "\n".join([PAGE_HEAD, *map(_section, everything["studies"].values())])


def _all_finished(study: Study, measured: Sequence[Finished], published: Sequence[Mapping[str, Any]]) -> list[Finished]:
    by_settings = {fingerprint(cell["settings"]): cell for cell in published}
    by_name = {finished.cell.name: finished for finished in measured}
    for cell in study.cells:
        kept = by_settings.get(cell.fingerprint)
        if cell.name not in by_name and kept is not None:
            by_name[cell.name] = Finished(cell=cell, figures=kept["figures"], seconds=kept["seconds"])
    return [by_name[cell.name] for cell in study.cells if cell.name in by_name]


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
    lines += ["| " + " | ".join(columns) + " |", "|" + "---|" * len(columns)]
    for cell in cells:
        figures = [f"{cell['figures'][key]:.4f}" for key in headings]
        lines.append("| " + " | ".join([*cell["labels"].values(), *figures]) + " |")
    if len(cells) < study["planned_cell_count"]:
        lines += ["", f"{len(cells)} of {study['planned_cell_count']} planned rows have been measured so far."]
    lines += ["", f"{machine['cores']} cores of {machine['processor']}, torch {machine['packages']['torch']}.", ""]
    for name in study["plots"]:
        lines += [f"![{study['title']}](ablations/{name})", ""]
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
    # Where options are added one by one, the last one is usually the best: it comes first, like its line.
    handles, labels = axes.get_legend_handles_labels()
    axes.legend(handles[::-1], labels[::-1], loc="center left", bbox_to_anchor=(1, 0.5))
    figure.savefig(path, dpi=110)
    plt.close(figure)
