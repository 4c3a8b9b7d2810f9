"""Requests made from a seed: valid ones, spoiled ones, and small patterns many times over."""

import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import grpc
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message

from winnow.v1 import candidate_pb2, packed_pb2, ranking_pb2

MARKER = "fuzzed-item"
"""Part of every text that is sent: in no log may it be found."""
MEBIBYTE = 1 << 20
LARGEST_COUNT = 20_000
"""Of elements of repeated fields, all in all."""
LARGEST_BYTES = 17 * MEBIBYTE
COMPRESSIONS = (grpc.Compression.NoCompression, grpc.Compression.Gzip, grpc.Compression.Deflate)
WIRE_TYPES = (0, 1, 2, 3, 4, 5)


@dataclass(frozen=True, kw_only=True)
class Payload:
    """One request as it is sent."""

    kind: str
    data: bytes
    compression: grpc.Compression
    metadata: tuple[tuple[str, str | bytes], ...]
    hang_up_after_seconds: float | None


class PayloadMaker:
    """Makes requests of one method. `release_id` is one that the service holds."""

    def __init__(self, message_class: type[Message], release_id: str, item_count: int, item_ids: list[str]) -> None:
        self._message_class = message_class
        self._release_id = release_id
        self._item_count = item_count
        self._item_ids = item_ids
        self._kinds: dict[str, Callable[[random.Random], bytes]] = {
            "valid": self._valid,
            "valid, at the limits": self._at_the_limits,
            "valid, bytes changed": self._mutated,
            "a field many times": self._repeated_field,
            "a pattern many times": self._repeated_pattern,
            "fields in a message": self._nested,
            "hostile values": self._hostile,
            "random bytes": lambda rng: rng.randbytes(rng.choice([0, 1, 10, 100, 10_000, MEBIBYTE])),
        }

    def make(self, seed: str) -> Payload:
        """Return the request of a seed, always the same one."""
        rng = random.Random(seed)  # noqa: S311 - has to be the same one again
        kind = rng.choice(list(self._kinds))
        return Payload(
            kind=kind,
            data=self._kinds[kind](rng),
            compression=rng.choice(COMPRESSIONS if rng.random() < 0.5 else COMPRESSIONS[:1]),
            metadata=_metadata(rng),
            hang_up_after_seconds=rng.random() * 0.05 if rng.random() < 0.1 else None,
        )

    def _valid(self, rng: random.Random) -> bytes:
        return self._message(rng, scale=rng.choice([1, 3, 30])).SerializeToString()

    def _at_the_limits(self, rng: random.Random) -> bytes:
        return self._message(rng, scale=rng.choice([999, 1000, 1001, 1999])).SerializeToString()

    def _mutated(self, rng: random.Random) -> bytes:
        data = bytearray(self._valid(rng) if rng.random() < 0.7 else self._at_the_limits(rng))
        for _ in range(rng.choice([1, 2, 8, 50])):
            position = rng.randrange(len(data) + 1)
            change = rng.randrange(5)
            if change == 0 and position < len(data):
                data[position] = rng.randrange(256)
            elif change == 1:
                data[position:position] = rng.randbytes(rng.randint(1, 10))
            elif change == 2:
                del data[position : position + rng.randint(1, 10)]
            elif change == 3:
                data[position:position] = data[position : position + rng.randint(1, 100)]
            else:
                del data[position:]
        return bytes(data)

    def _repeated_field(self, rng: random.Random) -> bytes:
        """One field of the message, as small as can be, up to a size; sometimes with a spoiled one at the end."""
        fields = self._message_class.DESCRIPTOR.fields_by_number
        number = rng.choice(list(fields) or [1])
        wire_type = rng.choice([_wire_type(fields[number].type) if fields else 0, rng.choice(WIRE_TYPES)])
        return _filled(_tag(number, wire_type) + _smallest(rng, wire_type), _size(rng)) + rng.choice(
            [b"", b"\x0a\x01\xff", b"\x12\x01\xff", b"\x0a\x03\x0a\x01\xff", b"\xff"]
        )

    def _repeated_pattern(self, rng: random.Random) -> bytes:
        pattern = b"".join(_any_field(rng, depth=3) for _ in range(rng.randint(1, 4)))
        return _filled(pattern, _size(rng))

    def _nested(self, rng: random.Random) -> bytes:
        """A field that holds a pattern many times, itself once or as often as a legal one."""
        number = rng.choice([field.number for field in self._message_class.DESCRIPTOR.fields] or [1])
        times = rng.choice([1, 10, 1000])
        inner = _filled(_any_field(rng, depth=2), _size(rng) // times)
        return (_tag(number, 2) + varint(len(inner)) + inner) * times

    def _hostile(self, rng: random.Random) -> bytes:
        """A valid message whose numbers, texts and arrays are of the worst kind."""
        message = self._message(rng, scale=rng.choice([1, 20, 1000]))
        _spoil(rng, message)
        return message.SerializePartialToString()

    def _message(self, rng: random.Random, scale: int) -> Message:
        if self._message_class is candidate_pb2.RetrieveCandidatesRequest:
            return self._retrieval(rng, scale)
        if self._message_class is ranking_pb2.RankCandidatesRequest:
            return self._ranking(rng, scale)
        message = self._message_class()
        self._fill(rng, message, scale)
        return message

    def _fill(self, rng: random.Random, message: Message, scale: int) -> None:
        for field in message.DESCRIPTOR.fields:
            if rng.random() < 0.2:
                continue
            if field.name == "filter":
                if rng.random() < 0.3:
                    setattr(message, field.name, _filter(rng))
            elif field.message_type is not None and not field.is_repeated:
                self._fill(rng, getattr(message, field.name), scale)
            elif field.message_type is not None:
                count = rng.randint(0, scale)
                for _ in range(count):
                    self._fill(rng, getattr(message, field.name).add(), min(scale, LARGEST_COUNT // count))
            elif field.is_repeated:
                getattr(message, field.name).extend(self._text(rng, scale) for _ in range(rng.randint(0, scale)))
            elif field.type == FieldDescriptor.TYPE_STRING:
                setattr(message, field.name, self._text(rng, scale))
            elif field.type == FieldDescriptor.TYPE_FLOAT:
                setattr(message, field.name, rng.random() * 5)
            elif field.type == FieldDescriptor.TYPE_BOOL:
                setattr(message, field.name, rng.random() < 0.5)
            else:
                setattr(message, field.name, rng.choice([0, 1, 20, 100, 1_700_000_000]))

    def _text(self, rng: random.Random, scale: int) -> str:
        if rng.random() < 0.5:
            return rng.choice(self._item_ids)
        return MARKER + rng.choice(["x", "\u00e9", "\u6620"]) * rng.choice([0, 1, 10, 100 if scale < 1000 else 160])

    def _retrieval(self, rng: random.Random, scale: int) -> Message:
        count = rng.choice([1, 10, 256, 257]) if scale >= 999 else rng.randint(1, scale)
        histories = self._rows(rng, count, rng.choice([1, 50, scale]))
        return candidate_pb2.RetrieveCandidatesRequest(
            release_id=self._release_id,
            histories=histories,
            counts=_integers(rng, count, 1, 2000, 4),
            exclusions=self._rows(rng, count, rng.choice([0, 1, scale])),
            filters=[
                candidate_pb2.FilteredQueries(filter=_filter(rng), queries=(position % count).to_bytes(4, "little"))
                for position in range(rng.choice([0, 0, 0, 1, 3, 64]))
            ],
            history_weights=rng.choice([b"", _integers(rng, len(histories.rows) // 4, 0, 1 << 29, 4)]),
            history_timestamps=rng.choice([b"", _integers(rng, len(histories.rows) // 4, 0, 1 << 33, 8)]),
        )

    def _ranking(self, rng: random.Random, scale: int) -> Message:
        count = rng.choice([1, 10, 256, 257]) if scale >= 999 else rng.randint(1, scale)
        histories = self._rows(rng, count, rng.choice([1, 50, scale]))
        return ranking_pb2.RankCandidatesRequest(
            release_id=self._release_id,
            histories=histories,
            candidates=self._rows(rng, count, rng.choice([1, 200, 2 * scale])),
            history_weights=rng.choice([b"", _integers(rng, len(histories.rows) // 4, 0, 1 << 29, 4)]),
            history_timestamps=rng.choice([b"", _integers(rng, len(histories.rows) // 4, 0, 1 << 33, 8)]),
        )

    def _rows(self, rng: random.Random, list_count: int, length: int) -> packed_pb2.PackedRows:
        return packed_pb2.PackedRows(
            rows=_integers(rng, list_count * length, 0, self._item_count - 1, 4),
            lengths=length.to_bytes(4, "little") * list_count,
        )


def _spoil(rng: random.Random, message: Message) -> None:
    for field, value in message.ListFields():
        if rng.random() < 0.5:
            continue
        elements: Any = value if field.is_repeated else [value]
        if field.message_type is not None:
            for element in elements:
                _spoil(rng, element)
        elif field.type == FieldDescriptor.TYPE_BYTES:
            size = rng.choice([0, 1, 4, len(value), MEBIBYTE, 4 * MEBIBYTE])
            setattr(message, field.name, _of_size(rng.choice([b"\0", b"\xff", rng.randbytes(4)]), size))
        elif field.is_repeated:
            elements[rng.randrange(len(elements))] = rng.choice(["", MARKER * 50, "\0"])
        elif field.type == FieldDescriptor.TYPE_FLOAT:
            setattr(message, field.name, rng.choice([float("nan"), float("inf"), -1.0, 3e38]))
        elif field.type == FieldDescriptor.TYPE_STRING:
            setattr(message, field.name, rng.choice(["", MARKER * 50, ":", f"{value}:-1", "9" * 5000]))
        elif field.type != FieldDescriptor.TYPE_BOOL:
            bits = 31 if field.type == FieldDescriptor.TYPE_INT32 else 63
            setattr(message, field.name, rng.choice([-1, -(1 << bits), (1 << bits) - 1]))


def _filter(rng: random.Random) -> str:
    """A filter that is right, as large as it may be, or nonsense of its tokens."""
    names = ["genres", "year", "added", "adult", "title", "none"]
    values = ["g3", "1990", "true", '"a text"', "2020-01-01T00:00:00Z", "*", '"*tle 12*"', MARKER]
    kind = rng.randrange(6)
    count = rng.choice([1, 3, 100, 101])
    if kind == 0:
        joined = rng.choice([" AND ", " OR ", " ", " AND NOT ", " AND -"])
        return joined.join(
            f"{rng.choice(names)}{rng.choice([':', '=', '!=', '>=', '<'])}{rng.choice(values)}" for _ in range(count)
        )
    if kind == 1:
        return f"genres:({rng.choice([' OR ', ' AND ', ' '])[:9].join(rng.choices(values, k=count))})"
    if kind == 2:
        depth = rng.choice([1, 20, 21, 900])
        return rng.choice(["(", "NOT (", "-("]) * depth + "year >= 1990" + ")" * depth
    if kind == 3:
        return rng.choice(["(", "-", "NOT ", '"', "\\", "a:", '"\\', " ", "a", "é", ":"]) * rng.choice([1, 400, 2000])
    tokens = ["(", ")", "AND", "OR", "NOT", "-", ":", "=", ">=", ",", "\\", "'", '"', "*", *names, *values]
    return rng.choice(["", " "]).join(rng.choices(tokens, k=rng.choice([2, 10, 200])))


def _metadata(rng: random.Random) -> tuple[tuple[str, str | bytes], ...]:
    choices: list[tuple[str, str | bytes]] = [
        ("authorization", "Bearer " + "x" * rng.choice([0, 10, 1000])),
        ("authorization", "".join(chr(rng.randint(32, 126)) for _ in range(20))),
        ("traceparent", "00-" + "0" * rng.randint(0, 32) + "-" + "f" * rng.randint(0, 16) + "-01"),
        ("x-unknown-bin", rng.randbytes(100)),
    ]
    return tuple(rng.sample(choices, rng.choice([0, 0, 0, 1, 2])))


def _integers(rng: random.Random, count: int, least: int, most: int, size: int) -> bytes:
    # A few different ones, many times: as hard for the service, and fast to make.
    some = b"".join(rng.randint(least, most).to_bytes(size, "little", signed=True) for _ in range(min(count, 97)))
    return _of_size(some, count * size)


def _size(rng: random.Random) -> int:
    largest = rng.choice([1000, 64 << 10, 255 << 10, 257 << 10, MEBIBYTE, 4 * MEBIBYTE - 100, 16 * MEBIBYTE - 100])
    return rng.choice([largest, largest, rng.randint(1, largest), LARGEST_BYTES])


def _filled(pattern: bytes, size: int) -> bytes:
    """The pattern as often as it fits, once at least."""
    return pattern * max(1, size // max(1, len(pattern)))


def _of_size(pattern: bytes, size: int) -> bytes:
    return (pattern * (size // len(pattern) + 1))[:size] if pattern else b""


def _any_field(rng: random.Random, depth: int) -> bytes:
    wire_type = rng.choice(WIRE_TYPES)
    tag = _tag(rng.choice([1, 2, 3, 4, 5, 6, 7, 15, 16, 1000, (1 << 29) - 1]), wire_type)
    if wire_type == 2 and depth and rng.random() < 0.6:
        inner = b"".join(_any_field(rng, depth - 1) for _ in range(rng.randint(0, 3)))
        return tag + varint(len(inner)) + inner
    return tag + _smallest(rng, wire_type)


def _smallest(rng: random.Random, wire_type: int) -> bytes:
    if wire_type == 0:
        return varint(rng.choice([0, 1, 127, 128, 1 << 31, (1 << 64) - 1]))
    if wire_type == 2:
        text = rng.choice([b"", b"", b"a", b"\xff", b"\xc3\xa9", b"\0", b"\x0a\x00"])
        return varint(len(text)) + text
    return rng.randbytes({1: 8, 5: 4}.get(wire_type, 0))


def _wire_type(field_type: int) -> int:
    if field_type in (FieldDescriptor.TYPE_STRING, FieldDescriptor.TYPE_BYTES, FieldDescriptor.TYPE_MESSAGE):
        return 2
    return 5 if field_type == FieldDescriptor.TYPE_FLOAT else 0


def _tag(number: int, wire_type: int) -> bytes:
    return varint(number << 3 | wire_type)


def varint(value: int) -> bytes:
    """Encode a number that is not negative."""
    made = b""
    while value > 0x7F:
        made += bytes([value & 0x7F | 0x80])
        value >>= 7
    return made + bytes([value])
