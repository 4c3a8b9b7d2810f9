"""The order of an answer under caps, pinned items and diversity, and why items moved.

Items are named by their place in the order of ranking, from 0. Pinned items that were not ranked have the numbers after
that. Shape legend: N items.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from gateway.answers import Move, MoveReason
from gateway.caps import CapCounts
from gateway.diversity import MarginalRelevance


@dataclass(frozen=True, kw_only=True, eq=False, slots=True)
class Arrangement:
    """Items, first to last, and why they moved, by their place."""

    items: list[int]
    moves: Mapping[int, Move]


def arrange(
    *,
    ranked_count: int,
    count: int,
    pinned: Mapping[int, int],
    caps: CapCounts,
    relevance: MarginalRelevance | None,
) -> Arrangement:
    """Fill up to `count` places: each with its pinned item, else with the best item that the caps allow.

    `pinned` maps places, below `count`, to items. `caps` and `relevance` are of all N items, and nothing has been taken
    yet; without `relevance` the best item is the one that was ranked first. Values of pinned items count, and the other
    items should differ from pinned ones, wherever these stand. Where the caps leave nothing, what is still pinned comes
    last.
    """
    taken_N = np.zeros(len(caps.blocked), dtype=np.bool_)
    passed_over_N = np.zeros(len(caps.blocked), dtype=np.bool_)
    reasons: dict[int, list[MoveReason]] = {}

    def take(item: int) -> None:
        taken_N[item] = True
        caps.take(item)
        if relevance is not None:
            relevance.take(item)

    for item in pinned.values():
        take(item)
    items: list[int] = []
    for place in range(count):
        if place in pinned:
            items.append(pinned[place])
            continue
        open_N = ~(taken_N | caps.blocked)
        first = int(open_N.argmax()) if len(open_N) else 0
        if not open_N[first : first + 1].any():
            items += [pinned[later] for later in range(place, count) if later in pinned]
            break
        item = first if relevance is None else relevance.best(open_N)
        passed_over_N[first:item] |= open_N[first:item]
        reasons[item] = []
        if (caps.blocked & ~taken_N)[:item].any():
            reasons[item].append(MoveReason.OTHERS_CAPPED)
        if item > first or passed_over_N[item]:
            reasons[item].append(MoveReason.DIVERSITY)
        take(item)
        items.append(item)
    return Arrangement(items=items, moves=_moves(items, set(pinned.values()), ranked_count, reasons))


def _moves(
    items: list[int], pinned: set[int], ranked_count: int, reasons: Mapping[int, list[MoveReason]]
) -> dict[int, Move]:
    pinned_places = np.array([place for place, item in enumerate(items) if item in pinned], dtype=np.int64)
    pinned_items = np.array(items, dtype=np.int64)[pinned_places]
    moves = {}
    for place, item in enumerate(items):
        if item in pinned:
            ranked_position = item + 1 if item < ranked_count else None
            moves[place] = Move(reasons=(MoveReason.PINNED,), ranked_position=ranked_position)
        elif item != place:
            found = reasons[item]
            if ((pinned_places < place) != (pinned_items < item)).any():
                found = [MoveReason.OTHERS_PINNED, *found]
            moves[place] = Move(reasons=tuple(found), ranked_position=item + 1)
    return moves
