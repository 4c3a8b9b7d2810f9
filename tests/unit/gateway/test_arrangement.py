"""Caps hold, pins stand at their places, and everything is as in a plain version that looks at every item each time."""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.answers import Move, MoveReason
from gateway.arrangement import Arrangement, arrange
from gateway.caps import CapCounts
from gateway.diversity import MarginalRelevance, relevance_of_ranks
from winnow.catalogue.attributes import Attributes
from winnow.catalogue.schema import AttributeType

TYPES = {
    "genres": AttributeType.LIST,
    "author": AttributeType.TEXT,
    "price": AttributeType.NUMBER,
    "adult": AttributeType.BOOLEAN,
}
HUGE = "x" * 50_000
PROPERTY = settings(deadline=None, max_examples=100)
VALUES: dict[str, list[Any]] = {
    "genres": [None, [], ["a"], ["a", "a"], ["b", "a"], ["c", HUGE], ["b"]],
    "author": [None, "", "anne", "bob", "\U0001f600"],
    "price": [None, math.nan, math.inf, -math.inf, 0.0, -0.0, 1.5],
    "adult": [None, True, False],
}
# The same direction or the opposite one, a direction of its own, or none: all similarities are exact.
VECTORS = np.array([[127, 0], [127, 0], [-127, 0], [0, 127], [0, 0]], dtype=np.int8)


@dataclass
class Case:
    """Items in the order of ranking, then pinned items that were not ranked."""

    values: list[dict[str, Any]]
    ranked_count: int
    count: int
    pinned: dict[int, int]
    caps: dict[str, int]
    vectors: np.ndarray
    diversity: float


@st.composite
def cases(draw: st.DrawFn) -> Case:
    ranked_count, other_count = draw(st.integers(0, 12)), draw(st.integers(0, 2))
    total = ranked_count + other_count
    count = draw(st.integers(1, 14))
    others = list(range(ranked_count, total))[:count]
    ranked_pins = (
        draw(st.lists(st.integers(0, max(ranked_count - 1, 0)), unique=True, max_size=3)) if ranked_count else []
    )
    pins = (others + ranked_pins)[:count]
    places = draw(st.permutations(range(count)))[: len(pins)]
    columns = [draw(st.lists(st.sampled_from(VALUES[name]), min_size=total, max_size=total)) for name in TYPES]
    return Case(
        values=[dict(zip(TYPES, values, strict=True)) for values in zip(*columns, strict=True)],
        ranked_count=ranked_count,
        count=count,
        pinned=dict(zip(places, pins, strict=True)),
        caps=draw(st.dictionaries(st.sampled_from(list(TYPES)), st.integers(1, 4))),
        vectors=VECTORS[draw(st.lists(st.integers(0, 4), min_size=total, max_size=total))].reshape(total, 2),
        diversity=draw(st.sampled_from([0.0, 0.25, 0.5, 1.0])),
    )


def arranged(case: Case) -> Arrangement:
    total = len(case.values)
    columns = {name: [values[name] for values in case.values] for name in TYPES}
    attributes = Attributes.from_values(columns, TYPES, total)
    rows = np.arange(total, dtype=np.int32)
    return arrange(
        ranked_count=case.ranked_count,
        count=case.count,
        pinned=case.pinned,
        caps=CapCounts([(attributes[name], max_count) for name, max_count in case.caps.items()], rows),
        relevance=(
            MarginalRelevance(case.vectors, relevance_of_ranks(total), case.diversity) if case.diversity else None
        ),
    )


def values_of(case: Case, item: int) -> set[tuple[str, Any]]:
    """What the caps count of an item."""
    found = set()
    for name in case.caps:
        value = case.values[item][name]
        values = value if isinstance(value, list) else [value]
        found |= {(name, value) for value in values if value not in (None, "") and value == value}
    return found


def plainly(case: Case) -> list[int]:
    counts: Counter[tuple[str, Any]] = Counter()
    left = set(range(case.ranked_count)) - set(case.pinned.values())
    chosen = list(case.pinned.values())
    for item in chosen:
        counts.update(values_of(case, item))
    items: list[int] = []
    relevance = relevance_of_ranks(len(case.values))

    def similarity(one: int, other: int) -> float:
        first, second = case.vectors[one].astype(float), case.vectors[other].astype(float)
        lengths = float(np.linalg.norm(first) * np.linalg.norm(second))
        return float(first @ second) / lengths if lengths else 0.0

    def marginal(item: int) -> float:
        nearest = max([0.0, *(similarity(item, other) for other in chosen)])
        weight = np.float32(case.diversity)
        return float(np.float32(1 - case.diversity) * relevance[item] - weight * np.float32(nearest))

    for place in range(case.count):
        if place in case.pinned:
            items.append(case.pinned[place])
            continue
        allowed = [
            item
            for item in sorted(left)
            if all(counts[name, value] < case.caps[name] for name, value in values_of(case, item))
        ]
        if not allowed:
            return items + [case.pinned[later] for later in range(place, case.count) if later in case.pinned]
        item = max(allowed, key=marginal) if case.diversity else allowed[0]
        left.remove(item)
        chosen.append(item)
        counts.update(values_of(case, item))
        items.append(item)
    return items


@PROPERTY
@given(cases())
def test_as_in_the_plain_version(case: Case) -> None:
    assert arranged(case).items == plainly(case)


@PROPERTY
@given(cases())
def test_items_are_answered_once_and_were_ranked_or_pinned(case: Case) -> None:
    items = arranged(case).items
    assert len(set(items)) == len(items) <= case.count
    assert set(items) <= set(range(case.ranked_count)) | set(case.pinned.values())


@PROPERTY
@given(cases())
def test_no_value_is_over_its_cap_but_by_pinned_items(case: Case) -> None:
    counts, of_pinned = Counter[Any](), Counter[Any]()
    for item in arranged(case).items:
        counts.update(values_of(case, item))
        if item in case.pinned.values():
            of_pinned.update(values_of(case, item))
    for (name, value), count in counts.items():
        assert count <= max(case.caps[name], of_pinned[name, value])


@PROPERTY
@given(cases())
def test_pinned_items_stand_at_their_places_or_at_the_end_of_a_short_answer(case: Case) -> None:
    items = arranged(case).items
    assert set(case.pinned.values()) <= set(items)
    if len(items) == case.count:
        assert all(items[place] == item for place, item in case.pinned.items())
    in_order = [item for item in items if item in case.pinned.values()]
    assert in_order == [case.pinned[place] for place in sorted(case.pinned)]


@PROPERTY
@given(cases())
def test_an_answer_is_short_only_where_every_other_item_is_capped(case: Case) -> None:
    items = arranged(case).items
    if len(items) == case.count:
        return
    counts = Counter(value for item in items for value in values_of(case, item))
    for item in set(range(case.ranked_count)) - set(items):
        assert any(counts[name, value] >= case.caps[name] for name, value in values_of(case, item))


@PROPERTY
@given(cases())
def test_every_item_that_moved_says_why_and_no_other_does(case: Case) -> None:
    arrangement = arranged(case)
    moved = {place for place, item in enumerate(arrangement.items) if item != place or item in case.pinned.values()}
    assert arrangement.moves.keys() == moved
    for place, move in arrangement.moves.items():
        item = arrangement.items[place]
        assert move.reasons
        assert move.ranked_position == (item + 1 if item < case.ranked_count else None)
        assert (MoveReason.PINNED in move.reasons) == (item in case.pinned.values())
        assert case.pinned or MoveReason.OTHERS_PINNED not in move.reasons
        assert case.caps or MoveReason.OTHERS_CAPPED not in move.reasons
        assert case.diversity or MoveReason.DIVERSITY not in move.reasons


def moves_of(
    authors: Sequence[str],
    count: int,
    *,
    pinned: Mapping[int, int] | None = None,
    caps: Mapping[str, int] | None = None,
    diversity: float = 0.0,
) -> list[tuple[int, Move | None]]:
    values = [{"genres": None, "author": author, "price": None, "adult": None} for author in authors]
    # Items of one author are alike.
    vectors = np.array([[127 * (author == "anne"), 127 * (author == "bob")] for author in authors], dtype=np.int8)
    case = Case(values, len(authors), count, dict(pinned or {}), dict(caps or {}), vectors, diversity)
    arrangement = arranged(case)
    return [(item, arrangement.moves.get(place)) for place, item in enumerate(arrangement.items)]


def move(ranked_position: int, *reasons: MoveReason) -> Move:
    return Move(reasons=reasons, ranked_position=ranked_position)


def test_what_comes_after_capped_items_says_so() -> None:
    assert moves_of(["anne", "anne", "anne", "bob"], 3, caps={"author": 2}) == [
        (0, None),
        (1, None),
        (3, move(4, MoveReason.OTHERS_CAPPED)),
    ]


def test_what_is_preferred_and_what_is_passed_over_say_so() -> None:
    assert moves_of(["anne", "anne", "bob", "bob"], 4, diversity=0.5) == [
        (0, None),
        (2, move(3, MoveReason.DIVERSITY)),
        (1, move(2, MoveReason.DIVERSITY)),
        (3, None),
    ]


def test_what_a_pinned_item_moves_says_so_up_to_where_it_came_from() -> None:
    assert moves_of(["anne", "bob", "anne", "bob"], 4, pinned={0: 2}) == [
        (2, move(3, MoveReason.PINNED)),
        (0, move(1, MoveReason.OTHERS_PINNED)),
        (1, move(2, MoveReason.OTHERS_PINNED)),
        (3, None),
    ]


def test_several_reasons_are_all_named() -> None:
    # The first is pinned to the end, and the second capped by it.
    assert moves_of(["anne", "anne", "bob"], 2, pinned={1: 0}, caps={"author": 1}) == [
        (2, move(3, MoveReason.OTHERS_PINNED, MoveReason.OTHERS_CAPPED)),
        (0, move(1, MoveReason.PINNED)),
    ]


def test_values_of_pinned_items_count_but_a_cap_does_not_remove_them() -> None:
    found = moves_of(["bob", "anne", "anne", "anne", "bob"], 5, pinned={0: 1, 1: 2}, caps={"author": 1})
    assert [item for item, _ in found] == [1, 2, 0]
