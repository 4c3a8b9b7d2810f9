"""What is wrong with the bytes of a message: protobuf says only that something is, and only after parsing all of it."""

from functools import cache
from typing import NamedTuple

from google.protobuf.descriptor import Descriptor, FieldDescriptor

from winnow.rpc.errors import WHOLE_REQUEST
from winnow.rpc.violations import Violation

VARINT, FIXED64, LENGTH_DELIMITED, GROUP_START, GROUP_END, FIXED32 = range(6)
SIZES = {FIXED64: 8, GROUP_START: 0, GROUP_END: 0, FIXED32: 4}


class _Field(NamedTuple):
    """A field that holds text or a message."""

    name: str
    repeated: bool
    message: Descriptor | None


def find_violation(descriptor: Descriptor, data: bytes, max_fields: int) -> Violation | None:
    """Return the first string field whose bytes are not UTF-8, or that there are more than `max_fields` fields.

    The fields of the messages within count too. No more than `max_fields` are looked at, so the time does not grow with
    the message. None where nothing is wrong, or where the message is broken in another way.
    """
    count = 0
    messages = [(descriptor, "", 0, len(data))]
    try:
        while messages:
            message, path, position, end = messages.pop()
            fields = _text_and_message_fields(message)
            seen = dict.fromkeys(fields, 0)
            while position < end:
                count += 1
                if count > max_fields:
                    return Violation(WHOLE_REQUEST, f"has more than {max_fields} fields")
                tag, position = varint(data, position)
                number, wire_type = tag >> 3, tag & 7
                if wire_type == VARINT:
                    _, position = varint(data, position)
                    continue
                if wire_type != LENGTH_DELIMITED:
                    position += SIZES[wire_type]
                    continue
                size, start = varint(data, position)
                position = start + size
                field = fields.get(number)
                if field is None:
                    continue
                index = seen[number]
                seen[number] += 1
                if field.message is not None:
                    messages.append((field.message, _path(path, field, index) + ".", start, position))
                elif not _is_utf8(data[start:position]):
                    return Violation(_path(path, field, index), "is not valid UTF-8")
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


def _is_utf8(value: bytes) -> bool:
    try:
        value.decode()
    except UnicodeDecodeError:
        return False
    return True


def _path(parent: str, field: _Field, index: int) -> str:
    return f"{parent}{field.name}[{index}]" if field.repeated else f"{parent}{field.name}"


@cache
def _text_and_message_fields(descriptor: Descriptor) -> dict[int, _Field]:
    """The fields by number. Maps are left out: no request has any."""
    return {
        field.number: _Field(field.name, field.is_repeated, field.message_type)
        for field in descriptor.fields
        if field.type == FieldDescriptor.TYPE_STRING
        or (field.message_type is not None and not field.message_type.GetOptions().map_entry)
    }
