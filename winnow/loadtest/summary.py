"""Measured loads as a table, as a plot of latency over rate, and as JSON."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.table import Table

from winnow.loadtest.measured import PARTS, PERCENTILES, Measured


@dataclass(frozen=True, kw_only=True)
class Point:
    """One load and what was measured with it."""

    offered: str
    """The load, for display: `64 callers`, `800/s`."""
    rate_per_second: float | None
    """The offered rate of an open loop; None for a closed loop."""
    measured: Measured

    def as_json(self) -> dict[str, Any]:
        """Return JSON values."""
        return {"offered": self.offered, "offered_rate_per_second": self.rate_per_second, **self.measured.as_json()}


def table(points: Sequence[Point]) -> Table:
    """Return a table with one row for each load: rates, latency in milliseconds, the mean of each part, failures."""
    made = Table("offered", "answers/s", "goodput/s", *PERCENTILES, *PARTS, "degraded", "failed")
    for point in points:
        values = point.measured.as_json()
        parts = values["parts_mean_milliseconds"]
        failures = ", ".join(f"{code} {count}" for code, count in sorted(point.measured.failures.items()))
        made.add_row(
            point.offered,
            f"{point.measured.rate_per_second:.0f}",
            f"{point.measured.goodput_per_second:.0f}",
            *(f"{value:.1f}" for value in values["latency_milliseconds"].values()),
            *("" if parts[part] is None else f"{parts[part]:.2f}" for part in PARTS),
            str(point.measured.degraded_count),
            failures or "0",
        )
    return made


def plot_latency_over_rate(series: Mapping[str, Sequence[Point]], path: Path) -> None:
    """Plot p50 and p99 of open loops over the offered rate, one pair of lines for each series, as PNG."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(figsize=(8, 4.5), layout="constrained")
    for number, (name, points) in enumerate(series.items()):
        shown = sorted(
            (point.rate_per_second, point.measured)
            for point in points
            if point.rate_per_second is not None and point.measured.answered_count
        )
        rates = [rate for rate, _ in shown]
        for percentile, style in (("p50", "-"), ("p99", "--")):
            axes.plot(
                rates,
                [measured.milliseconds(percentile) for _, measured in shown],
                style,
                marker="o",
                color=f"C{number}",
                label=f"{name}, {percentile}",
            )
    axes.set_xlabel("offered requests a second (open loop)")
    axes.set_ylabel("latency, milliseconds")
    axes.set_yscale("log")
    axes.grid(visible=True, which="both", alpha=0.3)
    axes.legend()
    figure.savefig(path, dpi=120)
    plt.close(figure)
