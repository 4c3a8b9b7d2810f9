"""A user's watch history, as callers give it."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import TypeAlias

Time: TypeAlias = float | datetime
"""Seconds since the Unix epoch, or a datetime that has a time zone."""


@dataclass(frozen=True, slots=True)
class Watch:
    """One watch, with what is known of it. Weights and times make answers better; None means unknown."""

    item_id: str
    weight: float | None = None
    """How much the watch counts, as in the training log: a rating, seconds watched. Finite, at least 0."""
    time: Time | None = None
    """When the watch was. Fractions of a second are cut off."""


History: TypeAlias = Iterable[str | Watch]
"""Watches, oldest first. An item id stands for a watch of which nothing else is known."""
