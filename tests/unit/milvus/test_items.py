"""Items are sent in messages that Milvus takes, however long their texts are."""

import numpy as np

from winnow.milvus.items import INSERT_BYTES, MAX_TEXT_BYTES, ROWS_AT_ONCE, inserts
from winnow.milvus.record import ROW_FIELD, VECTOR_FIELD


def test_short_items_go_by_the_thousand() -> None:
    blocks = list(inserts({ROW_FIELD: row, VECTOR_FIELD: np.zeros(4, dtype=np.float32)} for row in range(2_500)))
    assert [len(block) for block in blocks] == [ROWS_AT_ONCE, ROWS_AT_ONCE, 500]
    assert [entity[ROW_FIELD] for block in blocks for entity in block] == list(range(2_500))


def test_no_message_holds_more_than_some_bytes() -> None:
    """A thousand of the longest texts, and of the same texts backwards, would be twice as much as Milvus takes."""
    text = "\u00e4" * (MAX_TEXT_BYTES // 2)
    entities = [{ROW_FIELD: row, "value_0": text, "backwards_0": [text]} for row in range(1_000)]
    blocks = list(inserts(entities))
    assert [entity[ROW_FIELD] for block in blocks for entity in block] == list(range(1_000))
    for block in blocks:
        texts = (entity["value_0"] + entity["backwards_0"][0] for entity in block)
        assert sum(len(both.encode()) for both in texts) <= INSERT_BYTES
    # One that is larger by itself is sent alone: Milvus says what is wrong with it.
    assert [len(block) for block in inserts([{"value_0": ["x" * INSERT_BYTES]}, {"value_0": "y"}])] == [1, 1]


def test_nothing_is_no_message() -> None:
    assert list(inserts([])) == []
