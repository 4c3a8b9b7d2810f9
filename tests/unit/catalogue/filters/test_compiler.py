"""Compiled filters equal a plain evaluation, row by row, over random attributes and random expressions."""

import itertools
import math
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from winnow.catalogue.attributes import Attributes
from winnow.catalogue.filters import compiler
from winnow.catalogue.filters.checker import read_filter
from winnow.catalogue.filters.compiler import compile_filter
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
    all_of,
    any_of,
    negation,
)
from winnow.catalogue.filters.parser import CANONICAL_LIMITS
from winnow.catalogue.schema import AttributeType

TYPES = {
    "text": AttributeType.TEXT,
    "a list": AttributeType.LIST,
    "number": AttributeType.NUMBER,
    "NOT": AttributeType.TIMESTAMP,
    "boolean": AttributeType.BOOLEAN,
}
ORDER = [Operator.LESS, Operator.AT_MOST, Operator.GREATER, Operator.AT_LEAST]
EQUALITY = [Operator.EQUAL, Operator.NOT_EQUAL]

texts = st.text(st.sampled_from("abB*\\\"' é\x00\n😀\u202e"), max_size=4)
numbers = st.one_of(st.integers(-3, 3).map(float), st.floats(allow_nan=False, allow_infinity=False)).map(
    lambda x: x + 0.0
)
moments = st.one_of(st.datetimes(), st.sampled_from([datetime.min, datetime.max, datetime(1970, 1, 1)])).map(
    lambda moment: moment.replace(tzinfo=UTC)
)
VALUES: Mapping[str, st.SearchStrategy[Any]] = {
    "text": texts,
    "a list": st.lists(texts, max_size=4),
    "number": numbers,
    "NOT": moments,
    "boolean": st.booleans(),
}
items = st.fixed_dictionaries({name: st.one_of(st.none(), values) for name, values in VALUES.items()})
some_text = texts.filter(bool)
patterns = st.one_of(some_text.map(Prefix), some_text.map(Suffix))
comparisons = st.one_of(
    st.builds(Comparison, st.just("text"), st.sampled_from(ORDER + EQUALITY), texts),
    st.builds(Comparison, st.just("text"), st.sampled_from(EQUALITY), patterns),
    st.builds(Comparison, st.just("a list"), st.just(Operator.HAS), st.one_of(texts, patterns)),
    st.builds(Comparison, st.just("number"), st.sampled_from(ORDER + EQUALITY), numbers),
    st.builds(Comparison, st.just("NOT"), st.sampled_from(ORDER + EQUALITY), moments),
    st.builds(Comparison, st.just("boolean"), st.just(Operator.EQUAL), st.booleans()),
    st.builds(Present, st.sampled_from(list(TYPES))),
)
expressions = st.recursive(
    comparisons,
    lambda terms: st.one_of(
        st.lists(terms, min_size=1, max_size=4).map(all_of),
        st.lists(terms, min_size=1, max_size=4).map(any_of),
        terms.map(negation),
    ),
    max_leaves=12,
)


def holds(expression: Expression, item: Mapping[str, Any]) -> bool:
    match expression:
        case And(terms=terms):
            return all(holds(term, item) for term in terms)
        case Or(terms=terms):
            return any(holds(term, item) for term in terms)
        case Not(term=term):
            return not holds(term, item)
        case Present(attribute=name):
            return bool(values_of(item[name]))
        case Comparison(attribute=name, operator=operator, value=wanted):
            return any(compares(value, operator, wanted) for value in values_of(item[name]))


def values_of(value: Any) -> list[Any]:
    """The values of an item: none, one, or those of its list. An empty text is none."""
    return [part for part in (value if isinstance(value, list) else [value]) if part is not None and part != ""]


def compares(value: Any, operator: Operator, wanted: Any) -> bool:
    match wanted:
        case Prefix(text=text):
            equal = value.startswith(text)
        case Suffix(text=text):
            equal = value.endswith(text)
        case _:
            equal = value == wanted
    match operator:
        case Operator.EQUAL | Operator.HAS:
            return bool(equal)
        case Operator.NOT_EQUAL:
            return not equal
        case Operator.LESS:
            return bool(value < wanted)
        case Operator.AT_MOST:
            return bool(value <= wanted)
        case Operator.GREATER:
            return bool(value > wanted)
        case Operator.AT_LEAST:
            return bool(value >= wanted)


def attributes_of(rows: Sequence[Mapping[str, Any]]) -> Attributes:
    return Attributes.from_values({name: [row[name] for row in rows] for name in TYPES}, TYPES, len(rows))


@settings(max_examples=400, deadline=None)
@given(st.lists(items, max_size=20), expressions)
def test_the_bitmap_is_what_a_row_by_row_evaluation_says(rows: list[dict[str, Any]], expression: Expression) -> None:
    compiled = compile_filter(expression, attributes_of(rows))
    expected = [holds(expression, row) for row in rows]
    assert compiled.mask().tolist() == expected
    assert compiled.rows().tolist() == np.flatnonzero(expected).tolist()
    assert compiled.match_count == sum(expected)
    assert len(compiled.bitmap) == math.ceil(len(rows) / 8)


@settings(max_examples=100, deadline=None)
@given(st.lists(items, min_size=9, max_size=40), expressions)
def test_blocks_do_not_show(rows: list[dict[str, Any]], expression: Expression) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(compiler, "BLOCK_ROWS", 8)
        compiled = compile_filter(expression, attributes_of(rows))
    assert compiled.mask().tolist() == [holds(expression, row) for row in rows]


@settings(max_examples=400, deadline=None)
@given(expressions)
def test_the_canonical_form_reads_back_as_the_same_expression(expression: Expression) -> None:
    schema = attributes_of([]).schema
    assert read_filter(str(expression), schema, CANONICAL_LIMITS) == expression
    assert hash(read_filter(str(expression), schema, CANONICAL_LIMITS)) == hash(expression)


@given(st.permutations(["number > 1", 'text = "a"', "boolean:*", "(number < 0 OR text:*)"]))
def test_the_order_of_terms_does_not_show(parts: list[str]) -> None:
    schema = attributes_of([]).schema
    assert read_filter(" AND ".join(parts), schema) == read_filter(" ".join(reversed(parts)), schema)


@pytest.mark.parametrize("type_", [AttributeType.TEXT, AttributeType.LIST])
def test_all_short_texts_compare_with_each_other(type_: AttributeType) -> None:
    texts = ["".join(letters) for length in (1, 2, 3) for letters in itertools.product("abc", repeat=length)]
    values = texts if type_ is AttributeType.TEXT else [[text] for text in texts]
    attributes = Attributes.from_values({"a": values}, {"a": type_}, len(texts))
    operators = [*ORDER, *EQUALITY] if type_ is AttributeType.TEXT else [Operator.HAS]
    equality = EQUALITY if type_ is AttributeType.TEXT else [Operator.HAS]
    for text in texts:
        values_compared: list[tuple[Operator, Value]] = [(operator, text) for operator in operators]
        values_compared += [(operator, pattern) for operator in equality for pattern in (Prefix(text), Suffix(text))]
        for operator, value in values_compared:
            compiled = compile_filter(Comparison("a", operator, value), attributes)
            assert compiled.mask().tolist() == [compares(other, operator, value) for other in texts]


@pytest.mark.parametrize("distinct_count", [1, 254, 255, 256, 300])
def test_codes_of_every_width_compare(distinct_count: int) -> None:
    texts = [f"{number:03}" for number in range(distinct_count)]
    attributes = Attributes.from_values({"t": [*texts, None]}, {"t": AttributeType.TEXT}, distinct_count + 1)

    def found(text: str) -> list[int]:
        return list(compile_filter(read_filter(text, attributes.schema), attributes).rows())

    last = distinct_count - 1
    assert found(f"t = {last:03}") == [last]
    assert found(f"t > {last:03}") == []
    assert found("t >= 000") == list(range(distinct_count))
    assert found("t < 999") == list(range(distinct_count))
    assert found(f"t != {last:03}") == list(range(last))
