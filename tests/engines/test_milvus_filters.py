"""A filter matches the same rows in Milvus as in the compiler of bitmaps, over random items and random filters."""

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from pymilvus import MilvusClient

from tests.engines.milvus_server import MilvusServer
from tests.unit.catalogue.filters.test_compiler import TYPES, expressions
from winnow.catalogue.attributes import Attributes
from winnow.catalogue.filters.compiler import compile_filter
from winnow.catalogue.filters.expression import (
    And,
    Comparison,
    Expression,
    Operator,
    Prefix,
    Present,
    Suffix,
    all_of,
    any_of,
    negation,
)
from winnow.milvus.connection import MilvusAddress
from winnow.milvus.expressions import translate
from winnow.milvus.items import attribute_fields, collection_schema, entities
from winnow.milvus.record import ROW_FIELD, VECTOR_FIELD, AttributeField

pytestmark = pytest.mark.engines

ITEM_COUNT = 400
HOSTILE = [
    '" || row >= 0 || value_0 == "',
    '\\" || row >= 0 || value_0 == \\"',
    "' or true or '",
    "%",
    "_",
    "a%",
    "\\",
    "\\\\",
    '"',
    "{value_0}",
    "\n",
    "\x00",
    "\u202e",
    "\ud7ff",
    "\U0010ffff",
    "$meta",
    "a\\",
    "😀",
    "not true",
    "\\u0041",
    "x" * 500,
]


@dataclass(frozen=True)
class Filled:
    """Items, as the release has them and as Milvus has them."""

    client: MilvusClient
    attributes: Attributes
    fields: dict[str, AttributeField]

    def found(self, expression: Expression) -> list[int]:
        translated = translate(expression, self.fields).expression
        assert translated is not None
        found = self.client.query("filters", translated, output_fields=[ROW_FIELD], limit=ITEM_COUNT)
        return sorted(int(item[ROW_FIELD]) for item in found)

    def expected(self, expression: Expression) -> list[int]:
        rows: list[int] = compile_filter(expression, self.attributes).rows().tolist()
        return rows


def random_values(rng: random.Random) -> dict[str, list[Any]]:
    def text() -> str:
        return rng.choice(
            [*HOSTILE, *("".join(rng.choices("abB*\\\"' é\n😀", k=rng.randint(1, 4))) for _ in range(40))]
        )

    def moment() -> datetime:
        times = [datetime.min, datetime.max, datetime(1970, 1, 1), datetime(1970, 1, 1) + timedelta(rng.uniform(-9, 9))]
        return rng.choice(times).replace(tzinfo=UTC)

    def texts() -> list[str]:
        # One list in a hundred is so long that a pattern over it is compared with many places.
        return list(dict.fromkeys(text() for _ in range(200 if rng.random() < 0.01 else rng.randint(0, 4))))

    makers: dict[str, Callable[[], Any]] = {
        "text": text,
        "a list": texts,
        "number": lambda: rng.choice([float(rng.randint(-3, 3)), rng.gauss(0, 1), 1e300, -1e-300, 5e-324, 2.0**53]),
        "NOT": moment,
        "boolean": lambda: rng.random() < 0.5,
    }
    return {name: [None if rng.random() < 0.2 else make() for _ in range(ITEM_COUNT)] for name, make in makers.items()}


@pytest.fixture(scope="module")
def filled(milvus: MilvusServer) -> Iterator[Filled]:
    rng = random.Random(7)
    attributes = Attributes.from_values(random_values(rng), TYPES, ITEM_COUNT)
    fields = attribute_fields(attributes)
    vectors = np.ones((ITEM_COUNT, 2), dtype=np.float32)
    rows = np.arange(ITEM_COUNT, dtype=np.int32)
    with MilvusAddress(uri=milvus.uri).client(60) as client:
        client.create_collection(
            "filters", schema=collection_schema(2, fields), consistency_level="Eventually", num_shards=1
        )
        client.insert("filters", list(entities(rows, vectors, attributes, fields)))
        client.flush("filters")
        index = client.prepare_index_params()
        index.add_index(VECTOR_FIELD, index_type="FLAT", metric_type="IP")
        client.create_index("filters", index)
        client.load_collection("filters")
        yield Filled(client, attributes, {field.name: field for field in fields})
        client.drop_collection("filters")


@settings(max_examples=400, deadline=None)
@given(expressions)
@example(And(()))
def test_random_filters_match_the_rows_that_their_bitmaps_have(filled: Filled, expression: Expression) -> None:
    assert filled.found(expression) == filled.expected(expression)


@pytest.mark.parametrize("name", TYPES)
def test_what_has_no_value_is_found_by_its_absence_alone(filled: Filled, name: str) -> None:
    for expression in (Present(name), negation(Present(name))):
        assert filled.found(expression) == filled.expected(expression)
    assert 0 < len(filled.found(negation(Present(name)))) < ITEM_COUNT


@pytest.mark.parametrize("text", HOSTILE, ids=range(len(HOSTILE)))
def test_a_hostile_text_is_compared_and_never_read(filled: Filled, text: str) -> None:
    compared = [
        *(Comparison("text", operator, text) for operator in (Operator.EQUAL, Operator.NOT_EQUAL, Operator.LESS)),
        Comparison("text", Operator.EQUAL, Prefix(text)),
        Comparison("text", Operator.EQUAL, Suffix(text)),
        *(Comparison("a list", Operator.HAS, value) for value in (text, Prefix(text), Suffix(text))),
    ]
    for expression in [*compared, *map(negation, compared), any_of(compared)]:
        assert filled.found(expression) == filled.expected(expression)
    assert len(filled.found(compared[0])) < ITEM_COUNT / 2


def test_the_longest_and_deepest_filters_that_are_taken_match_the_same_rows(filled: Filled) -> None:
    comparisons = [
        *(Comparison("text", Operator.EQUAL, Prefix(f"a{number}")) for number in range(50)),
        *(Comparison("number", Operator.EQUAL, float(number)) for number in range(40)),
        *(Comparison("a list", Operator.HAS, Suffix(f"{number}b")) for number in range(10)),
    ]
    assert filled.fields["a list"].capacity > 40
    deep: Expression = comparisons[0]
    for number in range(20):
        other = comparisons[1 + number]
        deep = negation(all_of([other, deep])) if number % 2 else any_of([other, deep])
    for expression in (any_of(comparisons), all_of(map(negation, comparisons)), deep, negation(deep)):
        assert translate(expression, filled.fields).expression is not None
        assert filled.found(expression) == filled.expected(expression)


@settings(max_examples=100, deadline=None)
@given(st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=20))
def test_any_text_is_compared_and_never_read(filled: Filled, text: str) -> None:
    expression = any_of([Comparison("text", Operator.EQUAL, text), Comparison("a list", Operator.HAS, Prefix(text))])
    assert filled.found(expression) == filled.expected(expression)
