"""The comparison as tables, as JSON and as one HTML page with plots."""

import base64
import html
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from rich.box import SIMPLE
from rich.table import Table

from winnow.evaluation import plots
from winnow.evaluation.compare import CHAIN, Compared, Comparison, EvaluationLog
from winnow.evaluation.example_answers import examples_section
from winnow.evaluation.figures_table import in_words
from winnow.evaluation.recommender_figures import DEPTHS, by_group

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
CHAIN_NOT_MEASURED = (
    "ranking, and so the chain, is not measured on watches: it learned from impressions, and is measured on later ones"
)
STYLE = (
    "body{font-family:sans-serif;max-width:70rem;margin:2rem auto;padding:0 1rem}"
    "table{border-collapse:collapse;font-size:smaller}"
    "td,th{padding:.2rem .4rem;text-align:right;border-bottom:1px solid #ddd}"
    "td:first-child,th:first-child{text-align:left}img{max-width:100%}"
)


def shown(figures: Mapping[str, float]) -> list[str]:
    """Return one cell for each column; a figure with a confidence interval has half its width behind it."""
    cells = []
    for key in COLUMNS:
        cell = f"{figures[key]:.{DIGITS.get(key, 3)}f}"
        if f"{key}_low" in figures:
            cell += f" ±{(figures[f'{key}_high'] - figures[f'{key}_low']) / 2:.3f}"
        cells.append(cell)
    return cells


def table(part: str, comparison: Comparison) -> Table:
    """Build a table with one row for each recommender."""
    made = Table(box=SIMPLE, title=f"{part}: held-out watches among all unseen items (95 % intervals)")
    made.add_column("recommender", no_wrap=True)
    for heading in COLUMNS.values():
        made.add_column(heading, justify="right")
    for one in comparison.of_part(part):
        made.add_row(one.name, *shown(one.figures))
    return made


def gain_of_ranking(part: str, comparison: Comparison) -> dict[str, float]:
    """Return by how much the chain is better than the candidate order; empty where the chain is not measured."""
    return next((one.gain for one in comparison.of_part(part) if one.name == CHAIN), {})


def what_ranking_adds(part: str, comparison: Comparison) -> str:
    """Say by how much the chain is better than the candidate order, or why that was not measured."""
    found = gain_of_ranking(part, comparison)
    return in_words(part, found) if found else f"{part}: {CHAIN_NOT_MEASURED}"


def how_much_is_used(comparison: Comparison) -> str:
    """Say how much of the ranking network's correction the release uses; empty where it was not fitted."""
    training = comparison.release.manifest.training
    factors = training.get("correction_factors")
    if factors is None:
        return ""
    of_tables = _weights_in_words(training.get("neighbour_weights"))
    return (
        f"{_neighbours_of_candidates(training.get('candidate_neighbours'))}"
        f"Of the ranking network's correction, the chain uses {factors['tower']:g} of the tower's part and "
        f"{factors['successions']:g} of that by successions; weights of neighbours: {of_tables}. "
        "All of this was chosen on validation."
    )


def _neighbours_of_candidates(found: Mapping[str, Any] | None) -> str:
    """Say which tables of neighbours the candidate network has and what they gain; empty where none was tried."""
    if found is None:
        return ""
    without, with_them = found["validation"]["without"], found["validation"]["with"]
    gained = ", ".join(f"{name} {without[name]:.3f} without, {with_them[name]:.3f} with them" for name in without)
    return f"Candidate network: weights of neighbours: {_weights_in_words(found['weights'])}; on validation {gained}. "


def _weights_in_words(weights: Mapping[str, float] | None) -> str:
    return ", ".join(f"{name} {weight:g}" for name, weight in (weights or {}).items()) or "none"


def what_is_retired(parts: Sequence[str], comparison: Comparison) -> str:
    """Say how many items are left out because they are retired, and how many held-out watches are of them."""
    retired = comparison.release.retired()
    if not len(retired):
        return ""
    counts = [f"{np.isin(comparison.log.held_out(part).targets, retired).sum():,} of the {part}" for part in parts]
    return (
        f"Retired items are in no list, whoever makes it: {len(retired):,}. Held-out watches of them, which nobody "
        f"finds: {', '.join(counts)}."
    )


def how_settings_were_chosen(comparison: Comparison) -> list[str]:
    """Return what the preset auto found in the log and did; empty where another preset was given."""
    automatic = comparison.release.manifest.training.get("automatic")
    return [] if automatic is None else [*automatic["decisions"]]


def as_json(parts: Sequence[str], comparison: Comparison) -> dict[str, Any]:
    """Return every figure so far with four significant digits, by part and recommender."""
    settings = comparison.release.manifest.training.get("settings", {})
    found: dict[str, Any] = {"split": comparison.log.split.description, "seed": settings.get("seed")}
    for name in ("correction_factors", "candidate_neighbours", "neighbour_weights"):
        if (fitted := comparison.release.manifest.training.get(name)) is not None:
            found[name] = fitted
    if comparison.left_out:
        found["left_out"] = {_key(one.name): one.reason for one in comparison.left_out}
    for part in parts:
        ours = comparison.of_part(part)
        found[part] = {_key(one.name): one.figures for one in ours}
        if gained := gain_of_ranking(part, comparison):
            found[part]["gain_of_ranking"] = gained
            found[part]["calibration"] = next(one.calibration for one in ours if one.name == CHAIN)
        if part in comparison.impressions:
            found[part]["impressions"] = dict(comparison.impressions[part])
        for name, of_group in _groups(part, ours, comparison.log).items():
            found[part][name] = {_key(recommender): figures for recommender, figures in of_group.items()}
    rounded: dict[str, Any] = _rounded(found)
    return rounded


def page(part: str, comparison: Comparison) -> str:
    """Write one HTML page, plots included, about one part."""
    ours = comparison.of_part(part)
    # Twelve lines in one plot cannot be told apart.
    drawn = [one for one in ours if not one.withheld]
    groups = _groups(part, drawn, comparison.log)
    pictures = {
        "Candidates and ranked lists: recall over k": plots.recall_over_k(drawn),
        "By watches in the history": plots.by_group(groups["by_history_length"], "watches in the history"),
        "By training watches of the held-out item": plots.by_group(groups["by_popularity"], "training watches"),
    }
    for one in drawn:
        if one.name == CHAIN:
            pictures["Calibration of the ranking stage"] = plots.calibration_curve(one.calibration)
    if epochs := comparison.release.manifest.training.get("epochs"):
        pictures["Training"] = plots.losses(epochs)
    title = f"Release {comparison.release.release_id}"
    held_out = comparison.log.held_out(part)
    user_count = len(np.unique(held_out.users))
    rows = [(one.name, *shown(one.figures)) for one in ours]
    judged = [(name.replace("_", " "), f"{value:,.4g}") for name, value in comparison.impressions.get(part, {}).items()]
    impressions = f"<h2>Ranking on later impressions</h2>{_html_table(('', 'value'), judged)}" if judged else ""
    decisions = "".join(f"<li>{html.escape(line)}</li>" for line in how_settings_were_chosen(comparison))
    chosen = f"<h2>Settings that followed from the log</h2><ul>{decisions}</ul>" if decisions else ""
    return (
        f"<!doctype html><html lang='en'><meta charset='utf-8'><title>{html.escape(title)}</title>"
        f"<style>{STYLE}</style><h1>{html.escape(title)}</h1><p>{len(held_out):,} held-out watches of "
        f"{user_count:,} users ({part}); all items that a user has not seen are ranked; 95 % intervals by bootstrap "
        f"over users. Split: {html.escape(comparison.log.split.description)}.</p>"
        f"{_html_table(('', *COLUMNS.values()), rows)}<p>{html.escape(what_ranking_adds(part, comparison))}. "
        f"{html.escape(how_much_is_used(comparison))} {html.escape(what_is_retired((part,), comparison))}</p>"
        f"{impressions}{chosen}{''.join(_section(heading, png) for heading, png in pictures.items())}"
        f"{examples_section(comparison)}</html>\n"
    )


def _groups(
    part: str, compared: Sequence[Compared], log: EvaluationLog
) -> dict[str, dict[str, dict[str, dict[str, float]]]]:
    """Return figures by length of the history and by popularity of the held-out item, of each recommender."""
    held_out = log.held_out(part)
    popularity_B = log.watch_counts[held_out.targets]
    quartiles = np.unique(np.quantile(popularity_B, POPULARITY_QUANTILES).astype(int)).tolist()
    found = {}
    for name, values_B, edges in (
        ("by_history_length", held_out.histories.lengths, HISTORY_EDGES),
        ("by_popularity", popularity_B, quartiles),
    ):
        groups_B = np.digitize(values_B, edges)
        found[name] = {one.name: by_group(one.answers, groups_B, _ranges(edges)) for one in compared}
    return found


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


def _html_table(headings: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [("th", headings), *(("td", row) for row in rows)]
    cells = ("".join(f"<{tag}>{html.escape(cell)}</{tag}>" for cell in line) for tag, line in lines)
    return f"<table>{''.join(f'<tr>{line}</tr>' for line in cells)}</table>"
