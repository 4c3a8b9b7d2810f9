"""What a request asks of selection: caps, pinned items, diversity. Read once at the edge."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Self

import numpy as np
from numpy.typing import NDArray

from gateway.caps import CAPPED_TYPES
from gateway.checks import Violations
from winnow.catalogue.schema import Schema
from winnow.catalogue.vocabulary import Vocabulary
from winnow.history import NO_ROWS, Rows

MAX_CAPS = 10
MAX_PINNED_ITEMS = 100
# Of a name that is wrong, so much is repeated to the caller.
SHOWN_CHARACTERS = 50


@dataclass(kw_only=True, slots=True)
class GivenSelection:
    """What a caller asks of selection, as it was given. No more is read than what shows that there is too much."""

    caps: Sequence[tuple[str, int]] = ()
    """Attribute and most items with the same value."""
    pinned_items: Sequence[tuple[str, int]] = ()
    """Item id and position, from 1."""
    diversity: float | None = None


NOTHING_SELECTED = GivenSelection()


@dataclass(frozen=True, kw_only=True, eq=False, slots=True)
class SelectionRules:
    """What is asked of selection, in rows of one release."""

    caps: Sequence[tuple[str, int]] = ()
    """Attribute and most items with the same value."""
    pinned: Rows = field(default_factory=lambda: NO_ROWS)
    """The pinned rows, int32, in the order of their places."""
    places: Sequence[int] = ()
    """Where each of them stands, from 0."""
    diversity: float = 0.0

    def __bool__(self) -> bool:
        return bool(self.caps or self.places or self.diversity)

    def keep_pinned(self, kept: NDArray[np.bool_]) -> Self:
        """Return the same rules with some of the pinned rows only; `kept` says of each whether it is one of them."""
        places = [place for place, stays in zip(self.places, kept.tolist(), strict=True) if stays]
        return replace(self, pinned=self.pinned[kept], places=places)


class SelectionReader:
    """Checks what requests ask of selection, and fills in the defaults."""

    def __init__(self, default_caps: Mapping[str, int], default_diversity: float) -> None:
        self._defaults = SelectionRules(caps=tuple(default_caps.items()), diversity=default_diversity)

    def check_defaults(self, schema: Schema) -> None:
        """Raise ValueError where a default cap does not fit the attributes of a release."""
        for attribute, _ in self._defaults.caps:
            wrong = _what_is_wrong(attribute, schema)
            if wrong:
                raise ValueError(f"the default cap of {attribute!r} cannot be kept: it {wrong}")

    def check(self, given: GivenSelection, item_count: int, schema: Schema, violations: Violations) -> None:
        """Note what is wrong with what is given; `item_count` is how many items are asked for."""
        _check_caps(given.caps, schema, violations)
        _check_pinned(given.pinned_items, item_count, violations)
        # Not a number is neither.
        if given.diversity is not None and not 0 <= given.diversity <= 1:
            violations.add("diversity", f"is {given.diversity:g}: a number from 0 to 1 is needed")

    def read(self, given: GivenSelection, vocabulary: Vocabulary) -> tuple[SelectionRules | None, int]:
        """Return the rules, None where there are none, and how many pinned ids are unknown. `given` is checked."""
        if given is NOTHING_SELECTED:
            return self._defaults or None, 0
        by_position = sorted(given.pinned_items, key=lambda pinned: pinned[1])
        known = [(item_id, position) for item_id, position in by_position if item_id in vocabulary]
        rows = NO_ROWS
        if known:
            rows, _ = vocabulary.rows([item_id for item_id, _ in known])
        rules = SelectionRules(
            caps=given.caps or self._defaults.caps,
            pinned=rows,
            places=[position - 1 for _, position in known],
            diversity=self._defaults.diversity if given.diversity is None else given.diversity,
        )
        return rules or None, len(by_position) - len(known)


def _check_caps(caps: Sequence[tuple[str, int]], schema: Schema, violations: Violations) -> None:
    if len(caps) > MAX_CAPS:
        violations.add("caps", f"has more than {MAX_CAPS} caps")
        return
    seen: set[str] = set()
    for number, (attribute, max_count) in enumerate(caps):
        wrong = "is capped already" if attribute in seen else _what_is_wrong(attribute, schema)
        if wrong:
            violations.add(f"caps[{number}].attribute", wrong)
        if max_count < 1:
            violations.add(f"caps[{number}].max_count", f"is {max_count}: at least 1 is needed")
        seen.add(attribute)


def _what_is_wrong(attribute: str, schema: Schema) -> str:
    if attribute not in schema:
        shown = repr(attribute[:SHOWN_CHARACTERS])
        return f"is {shown}, which is no attribute of the release; GetReleaseSchema lists them"
    type_ = schema[attribute].type
    if type_ not in CAPPED_TYPES:
        return f"is a {type_}: only texts, lists of texts, numbers and booleans can be capped"
    return ""


def _check_pinned(pinned: Sequence[tuple[str, int]], item_count: int, violations: Violations) -> None:
    if len(pinned) > MAX_PINNED_ITEMS:
        violations.add("pinned_items", f"has more than {MAX_PINNED_ITEMS} items")
        return
    violations.check_each_id("pinned_items[{}].item_id", [item_id for item_id, _ in pinned])
    ids: set[str] = set()
    taken: dict[int, int] = {}
    for number, (item_id, position) in enumerate(pinned):
        if item_id in ids:
            violations.add(f"pinned_items[{number}].item_id", "is pinned already")
        if not 1 <= position <= item_count:
            violations.add(
                f"pinned_items[{number}].position",
                f"is {position}: it has to be from 1 to the item count, {item_count}",
            )
        elif position in taken:
            violations.add(f"pinned_items[{number}].position", f"is {position}, as of pinned_items[{taken[position]}]")
        ids.add(item_id)
        taken.setdefault(position, number)
