"""The page of the release: figures, loss curves, index, catalogue."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby

from winnow.client import Epoch, Evaluation, ReleaseFacts
from winnow.explorer.words import FIGURES, SUBJECTS

CURVE_WIDTH, CURVE_HEIGHT = 320.0, 120.0
# Of what is no recommender, but a difference of two.
GAIN = "gain_of_ranking"


@dataclass(frozen=True, slots=True, kw_only=True)
class FiguresTable:
    """What was measured on a part of the data: one row for each recommender."""

    part: str
    headings: tuple[str, ...]
    rows: tuple[tuple[str, str, tuple[str, ...]], ...]
    """Key, name and values of each."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Curve:
    """The loss of a network by epoch, as points of a picture."""

    network: str
    epochs: tuple[Epoch, ...]
    points: tuple[tuple[float, float], ...]
    highest: float
    lowest: float


def figures_tables(release: ReleaseFacts) -> list[FiguresTable]:
    """Return one table for each part of the data, that of the test first."""
    parts = {part: list(measured) for part, measured in groupby(release.evaluations, key=lambda found: found.part)}
    return [_table(part, parts[part]) for part in sorted(parts, key=lambda part: part != "test")]


def _table(part: str, measured: Sequence[Evaluation]) -> FiguresTable:
    shown = [found for found in measured if found.subject != GAIN]
    names = list(dict.fromkeys(name for found in shown for name in found.figures))
    # Known figures in the order in which people read them.
    order = list(FIGURES)
    names.sort(key=lambda name: order.index(name) if name in order else len(order))
    return FiguresTable(
        part=part,
        headings=tuple(FIGURES.get(name, name.replace("_", " ")) for name in names),
        rows=tuple(
            (
                found.subject,
                SUBJECTS.get(found.subject, found.subject.replace("_", " ")),
                tuple(_shown(found.figures, name) for name in names),
            )
            for found in shown
        ),
    )


def _shown(figures: Mapping[str, float], name: str) -> str:
    if name not in figures:
        return ""
    return f"{figures[name]:.4f}" if name in FIGURES else f"{figures[name]:.4g}"


def curves(release: ReleaseFacts) -> list[Curve]:
    """Return the loss curve of each network."""
    return [
        _curve(network, tuple(epochs)) for network, epochs in groupby(release.epochs, key=lambda epoch: epoch.network)
    ]


def _curve(network: str, epochs: tuple[Epoch, ...]) -> Curve:
    losses = [epoch.loss for epoch in epochs]
    lowest, highest = min(losses), max(losses)
    spread = highest - lowest or 1.0
    across = max(len(losses) - 1, 1)
    return Curve(
        network=network,
        epochs=epochs,
        points=tuple(
            (position / across * CURVE_WIDTH, (highest - loss) / spread * CURVE_HEIGHT)
            for position, loss in enumerate(losses)
        ),
        highest=highest,
        lowest=lowest,
    )
