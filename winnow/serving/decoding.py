"""What is wrong with the bytes of a message, before and after protobuf looks at them.

Parsing takes long for one thing only: every element of a repeated field becomes an object, as small as it may be.
"""

from functools import cache
from typing import NamedTuple

from google.protobuf.descriptor import Descriptor, FieldDescriptor

VARINT, FIXED64, LENGTH_DELIMITED, GROUP_START, GROUP_END, FIXED32 = range(6)
SIZES = {FIXED64: 8, GROUP_START: 0, GROUP_END: 0, FIXED32: 4}
# Whose message has more has made no slip.
SEARCHED_FIELDS = 5_000


class _Field(NamedTuple):
    """A field that holds text or a message."""

    name: str
    repeated: bool
    message: Descriptor | None


def has_more_framing(descriptor: Descriptor, data: bytes, limit_bytes: int) -> bool:
    """Whether everything but the texts in a message, and in those within it, takes more than so many bytes.

    That is tags, lengths and numbers: a few bytes a field, and the only bytes that are looked at. What is not a valid
    message may have any number of them.
    """
    fields, position, end = _message_fields(descriptor), 0, len(data)
    around: list[tuple[dict[int, Descriptor], int]] = []
    try:
        while True:
            if position >= end:
                if not around:
                    return False
                fields, end = around.pop()
                continue
            begin = position
            tag = data[position]
            if tag < 0x80:
                position += 1
            else:
                tag, position = varint(data, position)
            wire_type = tag & 7
            if wire_type == LENGTH_DELIMITED:
                size = data[position]
                if size < 0x80:
                    position += 1
                else:
                    size, position = varint(data, position)
                limit_bytes -= position - begin
                if size and tag in fields:
                    around.append((fields, end))
                    fields, end = _message_fields(fields[tag]), position + size
                else:
                    position += size
            else:
                if wire_type == VARINT:
                    _, position = varint(data, position)
                else:
                    position += SIZES[wire_type]
                limit_bytes -= position - begin
            if limit_bytes < 0:
                return True
    except (IndexError, KeyError):  # cut short, or a wire type that there is not
        return False


def find_invalid_utf8(descriptor: Descriptor, data: bytes) -> str | None:
    """Return the path of a string field whose bytes are not UTF-8, such as `history[3].item_id`.

    None where the message is broken in another way, or where none of its first fields is the reason.
    """
    count = 0
    messages = [(descriptor, "", 0, len(data))]
    try:
        while messages:
            message, path, position, end = messages.pop()
            fields = _text_and_message_fields(message)
            seen = dict.fromkeys(fields, 0)
            while position < end and count < SEARCHED_FIELDS:
                count += 1
                tag, position = varint(data, position)
                if tag & 7 == VARINT:
                    _, position = varint(data, position)
                    continue
                if tag & 7 != LENGTH_DELIMITED:
                    position += SIZES[tag & 7]
                    continue
                size, start = varint(data, position)
                position = start + size
                field = fields.get(tag >> 3)
                if field is None:
                    continue
                index = seen[tag >> 3]
                seen[tag >> 3] += 1
                if field.message is not None:
                    messages.append((field.message, _path(path, field, index) + ".", start, position))
                elif not _is_utf8(data[start:position]):
                    return _path(path, field, index)
    except (IndexError, KeyError):  # cut short, or a wire type that there is not
        pass
    return None


def varint(data: bytes, position: int) -> tuple[int, int]:
    """Return the number that begins at a position, and where it ends. Raises IndexError where it has no end."""
    value = data[position]
    if value < 0x80:
        return value, position + 1
    value &= 0x7F
    # Ten bytes hold 64 bits: what is longer is no varint.
    for shift in range(7, 70, 7):
        position += 1
        byte = data[position]
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, position + 1
    raise IndexError("a varint has no end")


def _path(parent: str, field: _Field, index: int) -> str:
    return f"{parent}{field.name}[{index}]" if field.repeated else f"{parent}{field.name}"


def _is_utf8(value: bytes) -> bool:
    try:
        value.decode()
    except UnicodeDecodeError:
        return False
    return True


@cache
def _text_and_message_fields(descriptor: Descriptor) -> dict[int, _Field]:
    """The fields by number. Maps are left out: no request has any."""
    return {
        field.number: _Field(field.name, field.is_repeated, field.message_type)
        for field in descriptor.fields
        if field.type == FieldDescriptor.TYPE_STRING
        or (field.message_type is not None and not field.message_type.GetOptions().map_entry)
    }


@cache
def _message_fields(descriptor: Descriptor) -> dict[int, Descriptor]:
    """The types of the messages in a message, by the tag of their field."""
    return {
        field.number << 3 | LENGTH_DELIMITED: field.message_type
        for field in descriptor.fields
        if field.message_type is not None
    }
