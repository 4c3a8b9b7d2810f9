"""A checked filter -> an expression of Milvus, from the same syntax tree that is compiled to bitmaps elsewhere.

Texts are compared as UTF-8 in both. A prefix is a range of texts, and a suffix is a prefix of the reversed text, since
Milvus's own patterns differ from version to version. Not every version has nulls, so each attribute has a field that
says whether there is a value, and every comparison asks it.
"""

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from winnow.catalogue.filters.expression import And, Comparison, Expression, Not, Operator, Or, Prefix, Present, Suffix
from winnow.catalogue.literals import microseconds
from winnow.catalogue.schema import AttributeType
from winnow.milvus.record import ROW_FIELD, AttributeField

# A pattern is compared with each place of a list, so it may become long.
MAX_EXPRESSION_CHARACTERS = 512 * 1024
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


def translate(expression: Expression, fields: Mapping[str, AttributeField]) -> EngineFilter:
    """Return what matches the same rows in Milvus, given the fields by attribute."""
    text = _of(expression, fields)
    return EngineFilter(text if len(text) <= MAX_EXPRESSION_CHARACTERS else None)


def literal(text: str) -> str:
    """Return a string literal, in which only letters, digits and a few more characters are not escaped."""
    return '"' + "".join(c if c in _PLAIN else f"\\u{ord(c):04x}" if ord(c) < 0x10000 else f"\\U{ord(c):08x}"
                         for c in text) + '"'  # fmt: skip


def _of(expression: Expression, fields: Mapping[str, AttributeField]) -> str:
    match expression:
        case And(terms=()):
            return f"{ROW_FIELD} >= 0"
        case And(terms=terms):
            return " && ".join(f"({_of(term, fields)})" for term in terms)
        case Or(terms=terms):
            return " || ".join(f"({_of(term, fields)})" for term in terms)
        case Not(term=term):
            return f"not ({_of(term, fields)})"
        case Present(attribute=name):
            return _present(fields[name])
        case Comparison(attribute=name, operator=Operator.NOT_EQUAL, value=value):
            equal = _of(Comparison(name, Operator.EQUAL, value), fields)
            return f"{_present(fields[name])} && not ({equal})"
        case Comparison(attribute=name, operator=operator, value=value):
            field = fields[name]
            return f"{_present(field)} && ({_comparison(field, operator, value)})"


def _present(field: AttributeField) -> str:
    return f"{field.present} == true"


def _comparison(field: AttributeField, operator: Operator, value: object) -> str:
    if field.type is AttributeType.LIST:
        return _in_list(field, value)
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
        case _:
            wanted = repr(value)
    return f"{field.value} {_OPERATORS.get(operator, operator)} {wanted}"


def _in_list(field: AttributeField, value: object) -> str:
    match value:
        case Prefix(text=text):
            places, start = field.value, text
        case Suffix(text=text):
            places, start = field.backwards, text[::-1]
        case _:
            return f"array_contains({field.value}, {literal(str(value))})"
    return " || ".join(f"({_starts_with(f'{places}[{place}]', start)})" for place in range(field.capacity))


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
