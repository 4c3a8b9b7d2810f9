"""A checked filter -> an expression of Milvus, from the same syntax tree that is compiled to bitmaps elsewhere.

Texts are compared as UTF-8 in both. A prefix is a range of texts, and a suffix is a prefix of the reversed text, since
Milvus's own patterns differ from version to version. Not every version has nulls, so each attribute has a field that
says whether there is a value, and every comparison asks it.
"""

import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime

from winnow.catalogue.filters.expression import (
    And,
    Comparison,
    Expression,
    Not,
    Operator,
    Or,
    Prefix,
    Present,
    Suffix,
    Value,
)
from winnow.catalogue.literals import microseconds
from winnow.catalogue.schema import AttributeType
from winnow.milvus.record import ROW_FIELD, AttributeField

# A pattern is compared with each place of a list, so it may become long.
MAX_EXPRESSION_CHARACTERS = 1024 * 1024
_PLAIN = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789 _-.,:")
_FIRST_SURROGATE, _AFTER_SURROGATES = 0xD800, 0xE000
_OPERATORS = {Operator.EQUAL: "==", Operator.HAS: "=="}


@dataclass(frozen=True, slots=True)
class EngineFilter:
    """An expression of Milvus; None where there is none that is short enough."""

    expression: str | None

    @property
    def size_bytes(self) -> int:
        """The memory that it takes."""
        return sys.getsizeof(self.expression)


class _TooLongError(Exception):
    """The expression would be longer than it may be."""


def translate(expression: Expression, fields: Mapping[str, AttributeField]) -> EngineFilter:
    """Return what matches the same rows in Milvus, given the fields by attribute."""
    try:
        return EngineFilter(_Translator(fields).text(expression))
    except _TooLongError:
        return EngineFilter(None)


def literal(text: str) -> str:
    """Return a string literal, in which only letters, digits and a few more characters are not escaped."""
    return '"' + "".join(c if c in _PLAIN else f"\\u{ord(c):04x}" if ord(c) < 0x10000 else f"\\U{ord(c):08x}"
                         for c in text) + '"'  # fmt: skip


class _Translator:
    def __init__(self, fields: Mapping[str, AttributeField]) -> None:
        self._fields = fields
        self._characters_left = MAX_EXPRESSION_CHARACTERS

    def text(self, expression: Expression) -> str:
        match expression:
            case And(terms=()):
                return f"{ROW_FIELD} >= 0"
            case And(terms=terms):
                return _joined("&&", map(self.text, terms))
            case Or(terms=terms):
                return _joined("||", map(self.text, terms))
            case Not(term=term):
                return f"not ({self.text(term)})"
            case Present(attribute=name):
                return _present(self._fields[name])
            case Comparison(attribute=name, operator=Operator.NOT_EQUAL, value=value):
                equal = self.text(Comparison(name, Operator.EQUAL, value))
                return f"{_present(self._fields[name])} && not ({equal})"
            case Comparison(attribute=name, operator=operator, value=value):
                field = self._fields[name]
                compared = (
                    self._in_list(field, value)
                    if field.type is AttributeType.LIST
                    else _compared(field, operator, value)
                )
                self._spend(len(compared))
                return f"{_present(field)} && ({compared})"

    def _in_list(self, field: AttributeField, value: Value) -> str:
        match value:
            case Prefix(text=text):
                places, start = field.value, text
            case Suffix(text=text):
                places, start = field.backwards, text[::-1]
            case _:
                return f"array_contains({field.value}, {literal(str(value))})"
        # Before it is written out as often as the longest list has texts.
        self._spend(field.capacity * len(_starts_with(places, start)))
        return _joined("||", (_starts_with(f"{places}[{place}]", start) for place in range(field.capacity)))

    def _spend(self, characters: int) -> None:
        """Raise _TooLongError where there is no room for so many characters more."""
        self._characters_left -= characters
        if self._characters_left < 0:
            raise _TooLongError


def _joined(operator: str, terms: Iterable[str]) -> str:
    return f" {operator} ".join(f"({term})" for term in terms)


def _present(field: AttributeField) -> str:
    return f"{field.present} == true"


def _compared(field: AttributeField, operator: Operator, value: Value) -> str:
    match value:
        case bool():
            return f"{field.value} == {'true' if value else 'false'}"
        case Prefix(text=text):
            return _starts_with(field.value, text)
        case Suffix(text=text):
            return _starts_with(field.backwards, text[::-1])
        case str():
            wanted = literal(value)
        case datetime():
            wanted = str(microseconds(value))
        case float():
            wanted = repr(value)
    return f"{field.value} {_OPERATORS.get(operator, operator)} {wanted}"


def _starts_with(field: str, start: str) -> str:
    """All texts from this one up to the first that is behind all that start so."""
    end = _behind(start)
    at_least = f"{field} >= {literal(start)}"
    return f"{at_least} && {field} < {literal(end)}" if end else at_least


def _behind(start: str) -> str:
    """The first text behind all that start so; empty where there is none."""
    kept = start.rstrip(chr(sys.maxunicode))
    if not kept:
        return ""
    following = ord(kept[-1]) + 1
    return kept[:-1] + chr(_AFTER_SURROGATES if following == _FIRST_SURROGATE else following)
