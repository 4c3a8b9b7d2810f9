"""What the attributes of a release are called and of which type they are."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import TypeAlias

MAX_NAME_CHARACTERS = 100


class AttributeValueError(ValueError):
    """A value does not fit the type of its attribute."""

    def __init__(self, row: int, reason: str, attribute: str = "") -> None:
        """`row` counts the values from 0; a column does not know what its `attribute` is called."""
        super().__init__((f"attribute {attribute}, " if attribute else "") + f"row {row}: {reason}")
        self.attribute = attribute
        self.row = row
        self.reason = reason


class AttributeType(StrEnum):
    """The type of an attribute. An item may lack a value, whatever the type."""

    TEXT = "text"
    LIST = "list"
    """A list of texts."""
    NUMBER = "number"
    TIMESTAMP = "timestamp"
    BOOLEAN = "boolean"


@dataclass(frozen=True, kw_only=True)
class Attribute:
    """One attribute of a release, as callers are told of it."""

    name: str
    type: AttributeType
    missing_count: int
    """How many items have no value."""
    distinct_count: int | None
    """How many different texts there are, for texts and lists of texts."""


Schema: TypeAlias = Mapping[str, Attribute]
"""The attributes of a release by name."""


def check_name(name: str) -> None:
    """Raise ValueError for a name that an attribute cannot have."""
    if not 0 < len(name) <= MAX_NAME_CHARACTERS:
        raise ValueError(
            f"attribute name {name[:50]!r} has {len(name)} characters: 1 to {MAX_NAME_CHARACTERS} are allowed"
        )
    if not name.isprintable():
        raise ValueError(f"attribute name {name!r} has characters that cannot be printed")
