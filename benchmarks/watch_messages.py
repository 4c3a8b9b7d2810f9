"""What `repeated Watch` costs at the gateway's edge beside parallel arrays: `python -m benchmarks.watch_messages`.

A history in each layout is parsed, then read into what the gateway works on: ids, weights and times. CPU time of this
process, the best of many tries. The decision is in docs/adr/0006-watch-messages.md.
"""

import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from operator import attrgetter
from pathlib import Path
from typing import Any, TypeVar

import grpc_tools
import numpy as np
from google.protobuf import descriptor_pb2, message_factory
from grpc_tools import protoc
from numpy.typing import NDArray

from benchmarks.presets import item_id
from winnow.v1 import recommendation_pb2

LENGTHS = (50, 1_000)
TRIES, CALLS_PER_TRY = 400, 20
FIRST_TIME_SECONDS = 1_700_000_000
UNKNOWN_TIME = np.iinfo(np.int64).min

Value = TypeVar("Value", np.float32, np.int64)
Read = tuple[list[str], NDArray[np.float32] | None, NDArray[np.int64] | None]


@dataclass(frozen=True, kw_only=True)
class Watches:
    """A history as the caller has it."""

    item_ids: list[str]
    weights: list[float]
    times_seconds: list[int]
    """Empty, as `weights`, where the caller does not know them."""


@dataclass(frozen=True, kw_only=True)
class Layout:
    """One way to send a history: how the caller fills the message, and how the gateway reads it."""

    name: str
    fill: Callable[[Watches], Any]
    read: Callable[[Any], Read]


@dataclass(frozen=True, kw_only=True)
class Cost:
    """Of one history in one layout."""

    size_bytes: int
    parse_microseconds: float
    read_microseconds: float

    @property
    def microseconds(self) -> float:
        """Parsing and reading."""
        return self.parse_microseconds + self.read_microseconds


def layouts() -> list[Layout]:
    """All layouts; the first one is what the others are compared with."""
    other = _compile(Path(__file__).with_suffix(".proto"))

    def fill_arrays(watches: Watches) -> Any:
        return other["ArraysRequest"](
            history=watches.item_ids,
            history_weights=watches.weights,
            history_times_seconds=watches.times_seconds,
        )

    def fill_watches(watches: Watches) -> Any:
        return recommendation_pb2.RecommendItemsRequest(
            history=[
                recommendation_pb2.Watch(item_id=item, weight=weight, timestamp_seconds=seconds)
                for item, weight, seconds in _each(watches)
            ]
        )

    def fill_timestamped(watches: Watches) -> Any:
        return other["TimestampedRequest"](
            history=[
                {"item_id": item, "weight": weight, "time": None if seconds is None else {"seconds": seconds}}
                for item, weight, seconds in _each(watches)
            ]
        )

    return [
        Layout(name="three parallel arrays", fill=fill_arrays, read=_read_arrays),
        Layout(name="`Watch`, time as int64 seconds", fill=fill_watches, read=_read_watches),
        Layout(name="`Watch`, time as Timestamp", fill=fill_timestamped, read=_read_timestamped),
    ]


def measure(watches: Watches) -> dict[str, Cost]:
    """Return what the history costs in each layout. The layouts take turns, so that a slow moment hits all of them."""
    calls: dict[tuple[str, str], Callable[[], object]] = {}
    size_bytes = {}
    for layout in layouts():
        message = layout.fill(watches)
        data: bytes = message.SerializeToString()
        _check(layout.read(message), watches)
        size_bytes[layout.name] = len(data)
        calls[layout.name, "parse"] = partial(message.FromString, data)
        # A message keeps the Python objects of the parts that were read: each reading needs a message of its own.
        calls[layout.name, "both"] = partial(_parse_and_read, message.FromString, layout.read, data)
    best = dict.fromkeys(calls, float("inf"))
    for _ in range(TRIES):
        for key, call in calls.items():
            best[key] = min(best[key], _microseconds(call))
    return {
        name: Cost(
            size_bytes=size,
            parse_microseconds=best[name, "parse"],
            read_microseconds=best[name, "both"] - best[name, "parse"],
        )
        for name, size in size_bytes.items()
    }


def main() -> None:
    """Print a table for each history."""
    rng = np.random.default_rng(0)
    for length in LENGTHS:
        for known in (False, True):
            times = FIRST_TIME_SECONDS + rng.integers(0, 10_000, length).cumsum()
            costs = measure(
                Watches(
                    item_ids=[item_id(row) for row in rng.integers(0, 1_000_000, length).tolist()],
                    weights=rng.integers(1, 6, length).astype(float).tolist() if known else [],
                    times_seconds=times.tolist() if known else [],
                )
            )
            arrays = next(iter(costs.values()))
            print(f"\n{length} watches, {'with' if known else 'without'} weights and times\n")
            print("| layout | bytes | parse, µs | read, µs | both, times the arrays' |\n|---|---|---|---|---|")
            for name, cost in costs.items():
                print(
                    f"| {name} | {cost.size_bytes} | {cost.parse_microseconds:.1f} | {cost.read_microseconds:.1f} "
                    f"| {cost.microseconds / arrays.microseconds:.1f} |"
                )


def _read_arrays(request: Any) -> Read:
    weights, times = request.history_weights, request.history_times_seconds
    return (
        list(request.history),
        np.array(weights, dtype=np.float32) if weights else None,
        np.array(times, dtype=np.int64) if times else None,
    )


def _read_watches(request: recommendation_pb2.RecommendItemsRequest) -> Read:
    watches = list(request.history)
    return (
        [watch.item_id for watch in watches],
        _known(watches, "weight", attrgetter("weight"), np.float32(np.nan)),
        _known(watches, "timestamp_seconds", attrgetter("timestamp_seconds"), np.int64(UNKNOWN_TIME)),
    )


def _read_timestamped(request: Any) -> Read:
    watches = list(request.history)
    return (
        [watch.item_id for watch in watches],
        _known(watches, "weight", attrgetter("weight"), np.float32(np.nan)),
        _known(watches, "time", attrgetter("time.seconds"), np.int64(UNKNOWN_TIME)),
    )


def _known(watches: Sequence[Any], field: str, read: Callable[[Any], float], unknown: Value) -> NDArray[Value] | None:
    """Return a field of every watch, `unknown` where it was not sent; None where no watch has it."""
    if watches[0].HasField(field):  # then usually all have it, and what does not read as 0 was sent
        values = list(map(read, watches))
        if all(values):
            return np.array(values, dtype=type(unknown))
    sent = [watch.HasField(field) for watch in watches]
    return np.where(sent, np.array(list(map(read, watches)), type(unknown)), unknown) if any(sent) else None


def _each(watches: Watches) -> Sequence[tuple[str, float | None, int | None]]:
    nothing = [None] * len(watches.item_ids)
    return list(zip(watches.item_ids, watches.weights or nothing, watches.times_seconds or nothing, strict=True))


def _check(read: Read, watches: Watches) -> None:
    item_ids, weights, times = read
    found = Watches(
        item_ids=item_ids,
        weights=[] if weights is None else weights.tolist(),
        times_seconds=[] if times is None else times.tolist(),
    )
    if found != watches:
        raise RuntimeError("a history was not read as it was sent")


def _compile(path: Path) -> dict[str, Any]:
    """Return the message classes of a proto file, by name."""
    with tempfile.TemporaryDirectory() as directory:
        output = Path(directory) / "descriptors"
        arguments = [f"-I{path.parent}", f"-I{Path(grpc_tools.__file__).parent / '_proto'}"]
        if protoc.main(["protoc", *arguments, "--include_imports", f"--descriptor_set_out={output}", path.name]) != 0:
            raise RuntimeError(f"{path} does not compile: see protoc's message above")
        files = descriptor_pb2.FileDescriptorSet.FromString(output.read_bytes()).file
    classes = message_factory.GetMessages(files)
    return {full_name.rpartition(".")[2]: message_class for full_name, message_class in classes.items()}


def _parse_and_read(parse: Callable[[bytes], Any], read: Callable[[Any], Read], data: bytes) -> Read:
    return read(parse(data))


def _microseconds(call: Callable[[], object]) -> float:
    started = time.process_time_ns()
    for _ in range(CALLS_PER_TRY):
        call()
    return (time.process_time_ns() - started) / CALLS_PER_TRY / 1000


if __name__ == "__main__":
    main()
