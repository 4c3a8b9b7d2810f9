"""The comparison as a table, as JSON and as one HTML page with plots."""

import base64
import html
import io
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.table import Table

from winnow.evaluation.compare import Compared
from winnow.evaluation.measure import DEPTHS, hit_rate_by
from winnow.training.split import HeldOut

COLUMNS = {
    **{f"hr_at_{depth}": f"HR@{depth}" for depth in DEPTHS},
    "ndcg_at_10": "NDCG@10",
    "mrr": "MRR",
    "coverage_at_10": "coverage",
    "popularity_at_10": "popularity",
    "novelty_at_10": "novelty, bits",
}
HISTORY_EDGES = (20, 50, 100, 200)
STYLE = (
    "body{font-family:sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem}"
    "table{border-collapse:collapse}td,th{padding:.2rem .6rem;text-align:right;border-bottom:1px solid #ddd}"
    "td:first-child,th:first-child{text-align:left}img{max-width:100%}"
)


def shown(figures: dict[str, float]) -> list[str]:
    """One figure a column, those with a confidence interval with it."""
    cells = []
    for key in COLUMNS:
        cell = f"{figures[key]:.2f}" if key == "novelty_at_10" else f"{figures[key]:.4f}"
        if f"{key}_low" in figures:
            cell += f" ({figures[f'{key}_low']:.3f}-{figures[f'{key}_high']:.3f})"
        cells.append(cell)
    return cells


def table(part: str, compared: Sequence[Compared]) -> Table:
    """Build a table with a row for each recommender."""
    made = Table(title=f"{part}: the held-out watch of each user among all unseen items (95 % intervals)")
    made.add_column("recommender")
    for heading in COLUMNS.values():
        made.add_column(heading, justify="right")
    for one in compared:
        if one.part == part:
            made.add_row(one.name, *shown(one.figures))
    return made


def as_json(compared: Sequence[Compared]) -> dict[str, Any]:
    """Figures by part and recommender."""
    parts = dict.fromkeys(one.part for one in compared)
    return {part: {one.name: one.figures for one in compared if one.part == part} for part in parts}


def page(title: str, part: str, compared: Sequence[Compared], held_out: HeldOut, counts: NDArray[np.int64]) -> str:
    """Write one HTML page, plots included, about one part. `counts`, int64 [I], are the items' training watches."""
    ours = [one for one in compared if one.part == part]
    head = "".join(f"<th>{html.escape(heading)}</th>" for heading in ("", *COLUMNS.values()))
    rows = "".join(
        f"<tr><td>{html.escape(one.name)}</td>{''.join(f'<td>{cell}</td>' for cell in shown(one.figures))}</tr>"
        for one in ours
    )
    by_length = np.digitize(held_out.histories.lengths, HISTORY_EDGES)
    length_names = dict(enumerate(_ranges(HISTORY_EDGES)))
    quartiles = np.quantile(counts[held_out.targets], (0.25, 0.5, 0.75)).astype(int).tolist()
    by_popularity = np.digitize(counts[held_out.targets], quartiles)
    popularity_names = dict(enumerate(_ranges(quartiles)))
    plots = [
        _plot("Share of held-out watches among the first k", lambda axes: _recall_over_k(axes, ours)),
        _plot(
            "HR@10 by watches in the history",
            lambda axes: _bars(axes, {one.name: hit_rate_by(one.answers, by_length, length_names) for one in ours}),
        ),
        _plot(
            "HR@10 by training watches of the held-out item",
            lambda axes: _bars(
                axes, {one.name: hit_rate_by(one.answers, by_popularity, popularity_names) for one in ours}
            ),
        ),
    ]
    return (
        f"<!doctype html><html lang='en'><meta charset='utf-8'><title>{html.escape(title)}</title>"
        f"<style>{STYLE}</style><h1>{html.escape(title)}</h1><p>{len(held_out):,} held-out watches ({part}), all "
        f"unseen items ranked, 95 % intervals by bootstrap over users.</p><table><tr>{head}</tr>{rows}</table>"
        f"{''.join(plots)}</html>\n"
    )


def _ranges(edges: Sequence[int]) -> list[str]:
    lows = [0, *edges]
    return [f"{low}-{high - 1}" for low, high in zip(lows, edges, strict=False)] + [f"{edges[-1]}+"]


def _plot(title: str, draw: Callable[[Any], None]) -> str:
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(figsize=(8, 4), layout="constrained")
    draw(axes)
    axes.set_title(title)
    axes.legend()
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=120)
    plt.close(figure)
    encoded = base64.b64encode(buffer.getvalue()).decode()
    return f"<p><img alt='{html.escape(title)}' src='data:image/png;base64,{encoded}'></p>"


def _recall_over_k(axes: Any, compared: Sequence[Compared]) -> None:
    depths = np.arange(1, DEPTHS[-1] + 1)
    for one in compared:
        found = np.bincount(one.answers.places, minlength=DEPTHS[-1] + 1)[:-1]
        axes.plot(depths, found.cumsum() / len(one.answers.places), label=one.name)
    axes.set_xscale("log")
    axes.set_xlabel("k")
    axes.grid(alpha=0.3)


def _bars(axes: Any, groups: dict[str, dict[str, float]]) -> None:
    names = list(dict.fromkeys(name for rates in groups.values() for name in rates))
    width = 0.8 / len(groups)
    for number, (recommender, rates) in enumerate(groups.items()):
        places = np.arange(len(names)) + number * width
        axes.bar(places, [rates.get(name, 0.0) for name in names], width, label=recommender)
    axes.set_xticks(np.arange(len(names)) + 0.4 - width / 2, names)
