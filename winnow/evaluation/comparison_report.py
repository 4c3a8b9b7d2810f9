"""The comparison as a table, as JSON and as one HTML page with plots."""

import base64
import html
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from rich.box import SIMPLE
from rich.table import Table

from winnow.evaluation import plots
from winnow.evaluation.compare import CANDIDATE, CHAIN, SEED, Compared, Log
from winnow.evaluation.measure import DEPTHS, by_group, gain
from winnow.release.reader import Release

COLUMNS = {
    **{f"hr_at_{depth}": f"HR@{depth}" for depth in DEPTHS},
    "ndcg_at_10": "NDCG@10",
    "mrr": "MRR",
    "coverage_at_10": "coverage",
    "popularity_at_10": "popularity",
    "novelty_at_10": "novelty",
}
DIGITS = {"popularity_at_10": 5, "novelty_at_10": 2}
HISTORY_EDGES = (20, 50, 100, 200)
POPULARITY_QUANTILES = (0.25, 0.5, 0.75)
STYLE = (
    "body{font-family:sans-serif;max-width:70rem;margin:2rem auto;padding:0 1rem}"
    "table{border-collapse:collapse;font-size:smaller}"
    "td,th{padding:.2rem .4rem;text-align:right;border-bottom:1px solid #ddd}"
    "td:first-child,th:first-child{text-align:left}img{max-width:100%}"
)


def shown(figures: Mapping[str, float]) -> list[str]:
    """One figure a column; those with a confidence interval with half its width."""
    cells = []
    for key in COLUMNS:
        cell = f"{figures[key]:.{DIGITS.get(key, 3)}f}"
        if f"{key}_low" in figures:
            cell += f" ±{(figures[f'{key}_high'] - figures[f'{key}_low']) / 2:.3f}"
        cells.append(cell)
    return cells


def table(part: str, compared: Sequence[Compared]) -> Table:
    """Build a table with a row for each recommender."""
    made = Table(box=SIMPLE, title=f"{part}: held-out watches among all unseen items (95 % intervals)")
    made.add_column("recommender", no_wrap=True)
    for heading in COLUMNS.values():
        made.add_column(heading, justify="right")
    for one in _of_part(compared, part):
        made.add_row(one.name, *shown(one.figures))
    return made


def gain_of_ranking(part: str, compared: Sequence[Compared]) -> dict[str, float]:
    """Return by how much the chain is better than the order of the candidates."""
    answers = {one.name: one.answers for one in _of_part(compared, part)}
    return gain(answers[CHAIN], answers[CANDIDATE], seed=SEED)


def gain_in_words(part: str, compared: Sequence[Compared]) -> str:
    """Say the same to a person."""
    found = gain_of_ranking(part, compared)
    words = [
        f"{heading} {found[key]:+.4f} ({found[f'{key}_low']:+.4f} to {found[f'{key}_high']:+.4f})"
        for key, heading in plots.METRICS.items()
    ]
    return f"{part}: ranking adds to the order of the candidates: {', '.join(words)}"


def as_json(release: Release, log: Log, parts: Sequence[str], compared: Sequence[Compared]) -> dict[str, Any]:
    """Return every figure to four digits, by part and recommender."""
    settings = release.manifest.training.get("settings", {})
    found: dict[str, Any] = {"split": log.split.description, "seed": settings.get("seed")}
    for part in parts:
        found[part] = {_key(one.name): one.figures for one in _of_part(compared, part)}
        found[part]["gain_of_ranking"] = gain_of_ranking(part, compared)
        found[part]["calibration"] = next(one.calibration for one in _of_part(compared, part) if one.name == CHAIN)
        for name, of_group in _groups(part, compared, log).items():
            found[part][name] = {_key(recommender): figures for recommender, figures in of_group.items()}
    rounded: dict[str, Any] = _rounded(found)
    return rounded


def page(release: Release, part: str, compared: Sequence[Compared], log: Log) -> str:
    """Write one HTML page, plots included, about one part."""
    ours = _of_part(compared, part)
    # Twelve lines are too many to tell apart.
    drawn = [one for one in ours if not one.withheld]
    groups = _groups(part, drawn, log)
    pictures = {
        "Candidates and ranked lists: recall over k": plots.recall_over_k(drawn),
        "By watches in the history": plots.by_group(groups["by_history_length"], "watches in the history"),
        "By training watches of the held-out item": plots.by_group(groups["by_popularity"], "training watches"),
        "Calibration of the ranking stage": plots.calibration(
            next(one.calibration for one in ours if one.name == CHAIN)
        ),
    }
    if epochs := release.manifest.training.get("epochs"):
        pictures["Training"] = plots.losses(epochs)
    title = f"Release {release.release_id}"
    head = "".join(f"<th>{html.escape(heading)}</th>" for heading in ("", *COLUMNS.values()))
    rows = "".join(
        f"<tr><td>{html.escape(one.name)}</td>{''.join(f'<td>{cell}</td>' for cell in shown(one.figures))}</tr>"
        for one in ours
    )
    user_count = len(np.unique(log.parts[part].users))
    return (
        f"<!doctype html><html lang='en'><meta charset='utf-8'><title>{html.escape(title)}</title>"
        f"<style>{STYLE}</style><h1>{html.escape(title)}</h1><p>{len(log.parts[part]):,} held-out watches of "
        f"{user_count:,} users ({part}); all items that a user has not seen are ranked; 95 % intervals by bootstrap "
        f"over users. Split: {html.escape(log.split.description)}.</p><table><tr>{head}</tr>{rows}</table>"
        f"<p>{html.escape(gain_in_words(part, compared))}.</p>"
        f"{''.join(_section(heading, png) for heading, png in pictures.items())}</html>\n"
    )


def _groups(part: str, compared: Sequence[Compared], log: Log) -> dict[str, dict[str, dict[str, dict[str, float]]]]:
    """Figures by length of the history and by popularity of the held-out item: by what -> recommender -> group."""
    held_out = log.parts[part]
    popularity_B = log.watch_counts[held_out.targets]
    quartiles = np.unique(np.quantile(popularity_B, POPULARITY_QUANTILES).astype(int)).tolist()
    found = {}
    for name, values_B, edges in (
        ("by_history_length", held_out.histories.lengths, HISTORY_EDGES),
        ("by_popularity", popularity_B, quartiles),
    ):
        groups_B = np.digitize(values_B, edges)
        found[name] = {one.name: by_group(one.answers, groups_B, _ranges(edges)) for one in _of_part(compared, part)}
    return found


def _of_part(compared: Sequence[Compared], part: str) -> list[Compared]:
    return [one for one in compared if one.part == part]


def _rounded(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _rounded(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_rounded(inner) for inner in value]
    return float(f"{value:.4g}") if isinstance(value, float) else value


def _key(name: str) -> str:
    return name.replace(" ", "_").replace("-", "_")


def _ranges(edges: Sequence[int]) -> list[str]:
    lows = [0, *edges]
    return [f"{low}-{high - 1}" for low, high in zip(lows, edges, strict=False)] + [f"{edges[-1]}+"]


def _section(heading: str, png: bytes) -> str:
    encoded = base64.b64encode(png).decode()
    text = html.escape(heading)
    return f"<h2>{text}</h2><p><img alt='{text}' src='data:image/png;base64,{encoded}'></p>"
