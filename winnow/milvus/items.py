"""The items of a release as Milvus stores them: a row, its vector, and the values of its attributes.

Shape legend: N rows of a block, H width of a vector.
"""

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pymilvus import CollectionSchema, DataType, MilvusClient

from winnow.catalogue.attributes import Attributes, Column
from winnow.catalogue.literals import microseconds
from winnow.catalogue.schema import AttributeType
from winnow.catalogue.text_columns import TextColumn, TextListColumn
from winnow.history import Rows
from winnow.milvus.record import ROW_FIELD, VECTOR_FIELD, AttributeField

# Milvus's own limits, of a text in bytes of UTF-8 and of a list in texts.
MAX_TEXT_BYTES = 65_535
MAX_LIST_LENGTH = 4_096
# Sent at once: a message of Milvus holds 64 MiB, and has more in it than values.
ROWS_AT_ONCE = 1_000
INSERT_BYTES = 16 * 2**20

_TYPES = {
    AttributeType.TEXT: DataType.VARCHAR,
    AttributeType.LIST: DataType.ARRAY,
    AttributeType.NUMBER: DataType.DOUBLE,
    AttributeType.TIMESTAMP: DataType.INT64,
    AttributeType.BOOLEAN: DataType.BOOL,
}
_NOTHING: dict[AttributeType, Any] = {
    AttributeType.TEXT: "",
    AttributeType.LIST: [],
    AttributeType.NUMBER: 0.0,
    AttributeType.TIMESTAMP: 0,
    AttributeType.BOOLEAN: False,
}


def attribute_fields(attributes: Attributes) -> tuple[AttributeField, ...]:
    """Return the fields for these attributes. Raises ValueError where one has a value that Milvus cannot hold."""
    return tuple(_field(number, name, attributes[name]) for number, name in enumerate(attributes))


def collection_schema(width: int, fields: tuple[AttributeField, ...]) -> CollectionSchema:
    """Return the schema of a collection."""
    schema = MilvusClient.create_schema(auto_id=False, enable_dynamic_field=False)
    schema.add_field(ROW_FIELD, DataType.INT64, is_primary=True)
    schema.add_field(VECTOR_FIELD, DataType.FLOAT_VECTOR, dim=width)
    for field in fields:
        limits: dict[str, Any] = {}
        if field.type in (AttributeType.TEXT, AttributeType.LIST):
            limits["max_length"] = MAX_TEXT_BYTES
        if field.type is AttributeType.LIST:
            limits |= {"element_type": DataType.VARCHAR, "max_capacity": field.capacity}
        schema.add_field(field.value, _TYPES[field.type], description=field.name, **limits)
        if field.type in (AttributeType.TEXT, AttributeType.LIST):
            schema.add_field(field.backwards, _TYPES[field.type], **limits)
        schema.add_field(field.present, DataType.BOOL)
    return schema


def entities(
    rows: Rows, vectors_NH: NDArray[np.float32], attributes: Attributes, fields: tuple[AttributeField, ...]
) -> Iterator[dict[str, Any]]:
    """Yield some rows of the catalogue as Milvus's client takes them."""
    columns = [(field, attributes[field.name]) for field in fields]
    for row, vector_H in zip(rows.tolist(), vectors_NH, strict=True):
        entity: dict[str, Any] = {ROW_FIELD: row, VECTOR_FIELD: vector_H}
        for field, column in columns:
            _add(entity, field, column[row])
        yield entity


def inserts(entities: Iterable[dict[str, Any]]) -> Iterator[list[dict[str, Any]]]:
    """Cut entities into blocks that a message of Milvus holds: some texts are long."""
    block: list[dict[str, Any]] = []
    block_bytes = 0
    for entity in entities:
        entity_bytes = sum(map(_size_bytes, entity.values()))
        if block and (len(block) == ROWS_AT_ONCE or block_bytes + entity_bytes > INSERT_BYTES):
            yield block
            block, block_bytes = [], 0
        block.append(entity)
        block_bytes += entity_bytes
    if block:
        yield block


def _size_bytes(value: Any) -> int:
    match value:
        case str():
            return len(value.encode())
        case list():
            return sum(map(_size_bytes, value))
        case np.ndarray():
            return value.nbytes
    return 8


def _add(entity: dict[str, Any], field: AttributeField, value: Any) -> None:
    present = value is not None and value != []
    if not present:
        value = _NOTHING[field.type]
    elif field.type is AttributeType.TIMESTAMP:
        value = microseconds(value)
    entity[field.present] = present
    entity[field.value] = value
    if field.type is AttributeType.TEXT:
        entity[field.backwards] = value[::-1]
    elif field.type is AttributeType.LIST:
        entity[field.backwards] = [text[::-1] for text in value]


def _field(number: int, name: str, column: Column) -> AttributeField:
    capacity = 1
    if isinstance(column, TextListColumn):
        capacity = max(1, int(column.lengths(slice(0, len(column))).max(initial=0)))
        if capacity > MAX_LIST_LENGTH:
            raise ValueError(f"attribute {name} has a list of {capacity} texts: Milvus takes {MAX_LIST_LENGTH}")
    if isinstance(column, TextColumn | TextListColumn):
        longest = int(np.diff(column.dictionary.ends.astype(np.int64), prepend=0).max(initial=0))
        if longest > MAX_TEXT_BYTES:
            raise ValueError(f"attribute {name} has a text of {longest} bytes: Milvus takes {MAX_TEXT_BYTES}")
    return AttributeField(number=number, name=name, type=column.type, capacity=capacity)
