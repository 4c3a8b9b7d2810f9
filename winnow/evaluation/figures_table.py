"""Tables of the figures that training reports."""

from collections.abc import Mapping

from rich.table import Table

# Among the figures of a part of the data, those that are not of a recommender.
IMPRESSIONS, GAIN_OF_RANKING = "impressions", "gain_of_ranking"
METRICS = {"hr_at_10": "HR@10", "ndcg_at_10": "NDCG@10"}
HEADINGS = {
    "hr_at_10": "HR@10",
    "hr_at_50": "HR@50",
    "hr_at_100": "HR@100",
    "hr_at_200": "HR@200",
    "ndcg_at_10": "NDCG@10",
    "mrr": "MRR",
}


def figures_table(title: str, figures: Mapping[str, Mapping[str, float]]) -> Table:
    """Build a table with one row for each baseline and for each stage."""
    table = Table(title=title)
    table.add_column("ranked by")
    for heading in HEADINGS.values():
        table.add_column(heading, justify="right")
    for name, values in figures.items():
        if name in (IMPRESSIONS, GAIN_OF_RANKING):
            continue
        table.add_row(name, *(f"{values[key]:.4f}" for key in HEADINGS))
    return table


def in_words(part: str, gain: Mapping[str, float]) -> str:
    """Say by how much the chain is better than the order of the candidates, with 95 % intervals."""
    words = [
        f"{heading} {gain[key]:+.4f} ({gain[f'{key}_low']:+.4f} to {gain[f'{key}_high']:+.4f})"
        for key, heading in METRICS.items()
    ]
    return f"{part}: ranking adds to the order of the candidates: {', '.join(words)}"


def impressions_table(title: str, figures: Mapping[str, float]) -> Table:
    """Build a table with one row for each figure of a ranking network on impressions."""
    table = Table("figure", title=title)
    table.add_column("value", justify="right")
    for name, value in figures.items():
        table.add_row(name.replace("_", " "), f"{value:,.4g}")
    return table
