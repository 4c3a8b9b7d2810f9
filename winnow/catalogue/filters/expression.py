"""A filter whose attributes, operators and values are known to fit together, and its canonical form.

Two filters that are written differently and mean the same by the rules below have one tree: nested ANDs and ORs are
flat, their terms are sorted and stand once, values are of the attribute's type.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import TypeAlias

from winnow.catalogue.literals import format_boolean, format_number, format_timestamp

_BARE_NAME = re.compile(r"(?!(AND|OR|NOT)$)[A-Za-z_][A-Za-z0-9_.]*", re.ASCII)
_ESCAPED = re.compile(r'[\\"*]')


class Operator(StrEnum):
    """How an attribute is compared with a value."""

    EQUAL = "="
    NOT_EQUAL = "!="
    LESS = "<"
    AT_MOST = "<="
    GREATER = ">"
    AT_LEAST = ">="
    HAS = ":"


@dataclass(frozen=True, slots=True)
class Prefix:
    """Any text that starts with `text`, which is not empty: `Star*`."""

    text: str

    def __str__(self) -> str:
        return f'"{_escaped(self.text)}*"'


@dataclass(frozen=True, slots=True)
class Suffix:
    """Any text that ends with `text`, which is not empty: `*.pdf`."""

    text: str

    def __str__(self) -> str:
        return f'"*{_escaped(self.text)}"'


Value: TypeAlias = str | Prefix | Suffix | float | datetime | bool
"""A text (for texts and lists), a pattern for such, a number, a moment in UTC, a boolean."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """An attribute compared with a value: false for an item that has no value, whatever the operator."""

    attribute: str
    operator: Operator
    value: Value

    def __str__(self) -> str:
        space = "" if self.operator is Operator.HAS else " "
        return f"{_name(self.attribute)}{space}{self.operator}{space}{_literal(self.value)}"


@dataclass(frozen=True, slots=True)
class Present:
    """True for an item that has a value: `year:*`."""

    attribute: str

    def __str__(self) -> str:
        return f"{_name(self.attribute)}:*"


@dataclass(frozen=True, slots=True)
class Not:
    """True where the term is false."""

    term: "Expression"

    def __str__(self) -> str:
        return f"NOT {_grouped(self.term)}"


@dataclass(frozen=True, slots=True)
class And:
    """True where every term is true: everywhere without terms, which is the empty filter. Built by `all_of`."""

    terms: tuple["Expression", ...]

    def __str__(self) -> str:
        return " AND ".join(map(_grouped, self.terms))


@dataclass(frozen=True, slots=True)
class Or:
    """True where some term is. Built by `any_of`."""

    terms: tuple["Expression", ...]

    def __str__(self) -> str:
        return " OR ".join(map(_grouped, self.terms))


Expression: TypeAlias = And | Or | Not | Comparison | Present


def all_of(terms: Iterable[Expression]) -> Expression:
    """Join with AND: flat, sorted, without repetition; one term stays as it is."""
    joined = _joined(part for term in terms for part in (term.terms if isinstance(term, And) else (term,)))
    return joined[0] if len(joined) == 1 else And(joined)


def any_of(terms: Iterable[Expression]) -> Expression:
    """Join at least one term with OR: flat, sorted, without repetition; one term stays as it is."""
    joined = _joined(part for term in terms for part in (term.terms if isinstance(term, Or) else (term,)))
    return joined[0] if len(joined) == 1 else Or(joined)


def negation(term: Expression) -> Expression:
    """NOT; two of them cancel out."""
    return term.term if isinstance(term, Not) else Not(term)


def _joined(terms: Iterable[Expression]) -> tuple[Expression, ...]:
    return tuple(sorted(dict.fromkeys(terms), key=str))


def _grouped(term: Expression) -> str:
    return f"({term})" if isinstance(term, And | Or) else str(term)


def _name(name: str) -> str:
    return name if _BARE_NAME.fullmatch(name) else f'"{_escaped(name)}"'


def _literal(value: Value) -> str:
    match value:
        case bool():
            return format_boolean(value)
        case float():
            return format_number(value)
        case datetime():
            return f'"{format_timestamp(value)}"'
        case str():
            return f'"{_escaped(value)}"'
        case Prefix() | Suffix():
            return str(value)


def _escaped(text: str) -> str:
    return _ESCAPED.sub(r"\\\g<0>", text)
