"""Two gateways beside each other: the same request, and how the answers differ."""

from dataclasses import dataclass

from winnow.client import Recommendations
from winnow.explorer.failures import Failure


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """An item of one of the answers, and where it stands in the other."""

    position: int
    item_id: str
    score: float
    other_position: int | None
    """None where the other answer does not have it."""
    rise: int | None
    """How much better than in the other answer it stands."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """How two answers differ."""

    first: tuple[Place, ...]
    second: tuple[Place, ...]
    shared_count: int
    same_place_count: int
    same_release: bool


def compare(first: Recommendations | Failure, second: Recommendations | Failure) -> Difference | None:
    """Return None where one of the answers is missing."""
    if isinstance(first, Failure) or isinstance(second, Failure):
        return None
    one, two = _places(first, second), _places(second, first)
    return Difference(
        first=one,
        second=two,
        shared_count=sum(place.other_position is not None for place in one),
        same_place_count=sum(place.rise == 0 for place in one),
        same_release=first.release_id == second.release_id,
    )


def _places(answer: Recommendations, other: Recommendations) -> tuple[Place, ...]:
    others = {item.item_id: position for position, item in enumerate(other.items, start=1)}
    return tuple(
        Place(
            position=position,
            item_id=item.item_id,
            score=item.score,
            other_position=others.get(item.item_id),
            rise=others[item.item_id] - position if item.item_id in others else None,
        )
        for position, item in enumerate(answer.items, start=1)
    )
