"""Why a message could not be decoded: protobuf only says that it could not."""

from collections.abc import Iterator
from typing import NamedTuple

from google.protobuf.descriptor import Descriptor, FieldDescriptor

_VARINT, _FIXED64, _LENGTH_DELIMITED, _FIXED32 = 0, 1, 2, 5


class _WireField(NamedTuple):
    number: int
    payload: bytes | None  # of length-delimited fields


def find_invalid_utf8(descriptor: Descriptor, data: bytes) -> str | None:
    """Return the path of the first string field whose bytes are not UTF-8, such as `history[3].item_id`.

    None where the message is broken in another way.
    """
    seen: dict[int, int] = {}
    try:
        for number, payload in _wire_fields(data):
            field = descriptor.fields_by_number.get(number)
            if field is None or payload is None:
                continue
            position = seen.get(number, 0)
            seen[number] = position + 1
            inside = _invalid_inside(field, payload)
            if inside is not None:
                return (f"{field.name}[{position}]" if field.is_repeated else field.name) + inside
    except (IndexError, ValueError):
        return None
    return None


def _invalid_inside(field: FieldDescriptor, payload: bytes) -> str | None:
    """Return the rest of the path to what is not UTF-8 in a field; None where there is nothing of the kind."""
    if field.message_type is not None:
        path = find_invalid_utf8(field.message_type, payload)
        return None if path is None else f".{path}"
    if field.type == FieldDescriptor.TYPE_STRING:
        try:
            payload.decode()
        except UnicodeDecodeError:
            return ""
    return None


def _wire_fields(data: bytes) -> Iterator[_WireField]:
    position = 0
    while position < len(data):
        tag, position = _read_varint(data, position)
        kind = tag & 7
        payload = None
        if kind == _VARINT:
            _, position = _read_varint(data, position)
        elif kind == _FIXED64:
            position += 8
        elif kind == _FIXED32:
            position += 4
        elif kind == _LENGTH_DELIMITED:
            length, position = _read_varint(data, position)
            payload = data[position : position + length]
            position += length
        else:
            raise ValueError(f"wire type {kind}")
        if position > len(data):
            raise IndexError("truncated")
        yield _WireField(tag >> 3, payload)


def _read_varint(data: bytes, position: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, position
        shift += 7
        if shift > 63:
            raise ValueError("varint of more than 64 bits")
