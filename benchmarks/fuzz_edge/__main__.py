"""`python -m benchmarks.fuzz_edge --minutes 10`: looks for a request that holds an event loop, among other things.

Runs the three services as processes, sends each of them one hostile request after the other, and reports: how long the
event loop was held at most by each kind, statuses that the contract does not know, texts of exceptions, what was logged
of the requests, and memory. `--only gateway/17` sends one request of the run with the same `--seed` again.
"""

import argparse
import asyncio
import json
import subprocess
import sys
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import IO, Any

import grpc
from google.protobuf.descriptor import FileDescriptor
from google.protobuf.message_factory import GetMessageClass

from benchmarks.fuzz_edge.payloads import MARKER, Payload, PayloadMaker
from benchmarks.presets import SMALL, item_id
from benchmarks.releases import write
from tests.service.process import wait_until_healthy
from winnow.catalogue.attributes import Attributes
from winnow.catalogue.schema import AttributeType
from winnow.release.reader import current_release_id
from winnow.serving.local_stack import free_port
from winnow.v1 import candidate_pb2, catalogue_pb2, ranking_pb2, recommendation_pb2, status_pb2

REPEATS = 3
HELD_SECONDS = 0.02
"""No request may hold an event loop for longer."""
PRESET = replace(SMALL, name="fuzz_edge", item_count=100_000, embedding_dim=16, hidden_dim=16, taste_count=200)
TIMEOUT_SECONDS = 5.0
PROTOCOLS: dict[str, tuple[FileDescriptor, ...]] = {
    "gateway": (recommendation_pb2.DESCRIPTOR, catalogue_pb2.DESCRIPTOR, status_pb2.DESCRIPTOR),
    "candidate_service": (candidate_pb2.DESCRIPTOR,),
    "ranking_service": (ranking_pb2.DESCRIPTOR,),
}
# UNIMPLEMENTED is gRPC's answer to a compressed request where none is taken: at stages.
ALLOWED = {"OK", "INVALID_ARGUMENT", "RESOURCE_EXHAUSTED", "DEADLINE_EXCEEDED", "UNAVAILABLE"}
ALLOWED_AT_STAGES = ALLOWED | {"FAILED_PRECONDITION", "UNIMPLEMENTED"}
LEAKS = ("Traceback", "Error(", "<class", ".py")


@dataclass(kw_only=True)
class Sent:
    """One request and what came of it."""

    index: int
    method: str
    kind: str
    size: int
    compression: str
    status: str
    started_at: float
    """Monotonic seconds."""
    held_seconds: float = 0.0
    """The longest that one callback of the service's event loop took meanwhile, in CPU time."""
    held_by: str = ""
    held_again_seconds: float | None = None
    """The same, the shortest of several times that it was sent again; None where it was not."""

    @property
    def text(self) -> str:
        """One line."""
        again = "" if self.held_again_seconds is None else f" (again {self.held_again_seconds * 1000:.1f})"
        return (
            f"{self.held_seconds * 1000:6.1f} ms{again}  /{self.index}: {self.kind}, {self.size} bytes, "
            f"{self.compression}, {self.method.rpartition('/')[2]}: {self.status}"
        )


@dataclass
class Target:
    """A service under test."""

    name: str
    port: int
    process: "subprocess.Popen[bytes]"
    report: Path
    log: Path
    sent: list[Sent] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    resident_bytes: list[int] = field(default_factory=list)

    def look_at_memory(self) -> None:
        """Note how much the process has now."""
        pages = int(Path(f"/proc/{self.process.pid}/statm").read_text().split()[1])
        self.resident_bytes.append(pages * 4096)


class Services:
    """The three services, each on a watched event loop."""

    def __init__(self, releases: Path, directory: Path) -> None:
        self._releases = releases
        self._directory = directory
        self.targets: list[Target] = []
        self._logs: list[IO[bytes]] = []

    def __enter__(self) -> list[Target]:
        ports = {name: free_port("127.0.0.1") for name in PROTOCOLS}
        stages = [
            f"--candidate-target=127.0.0.1:{ports['candidate_service']}",
            f"--ranking-target=127.0.0.1:{ports['ranking_service']}",
        ]
        for name in reversed(PROTOCOLS):
            report, log = self._directory / f"{name}.held", self._directory / f"{name}.log"
            flags = [f"--releases={self._releases}", f"--port={ports[name]}", "--drain-seconds=0", "--log-level=info"]
            self._logs.append(log.open("wb"))
            flags += stages if name == "gateway" else []
            process = subprocess.Popen(
                [sys.executable, "-m", "benchmarks.fuzz_edge.watched", str(report), name, *flags],
                stderr=self._logs[-1],
            )
            self.targets.append(Target(name, ports[name], process, report, log))
            wait_until_healthy(process, f"127.0.0.1:{ports[name]}", hint=f"(see {log})")
        return self.targets

    def __exit__(self, *_error: object) -> None:
        for target in self.targets:
            target.process.terminate()
            if target.process.wait(30):
                target.problems.append(f"exit status {target.process.returncode}")
        for log in self._logs:
            log.close()


def attributes() -> Attributes:
    """Attributes of all types, for filters."""
    rows = range(PRESET.item_count)
    return Attributes.from_values(
        {
            "title": [f"Title {row}" for row in rows],
            "genres": [[f"g{row % 7}", f"g{row % 11}"] for row in rows],
            "year": [1950 + row % 70 for row in rows],
            "added": [row * 10_000 for row in rows],
            "adult": [row % 10 == 0 for row in rows],
        },
        {
            "title": AttributeType.TEXT,
            "genres": AttributeType.LIST,
            "year": AttributeType.NUMBER,
            "added": AttributeType.TIMESTAMP,
            "adult": AttributeType.BOOLEAN,
        },
        PRESET.item_count,
    )


def makers(service: str, release_id: str) -> dict[str, PayloadMaker]:
    """A maker of requests for each method of a service."""
    item_ids = [item_id(row) for row in range(PRESET.item_count)]
    return {
        f"/{grpc_service.full_name}/{method.name}": PayloadMaker(
            GetMessageClass(method.input_type), release_id, PRESET.item_count, item_ids
        )
        for protocol in PROTOCOLS[service]
        for grpc_service in protocol.services_by_name.values()
        for method in grpc_service.methods
    }


async def send(channel: grpc.aio.Channel, method: str, payload: Payload) -> tuple[str, str]:
    """Send one request; return its status and the text of it."""
    multicallable: Any = channel.unary_unary(method)
    call = multicallable(
        payload.data, timeout=TIMEOUT_SECONDS, compression=payload.compression, metadata=payload.metadata
    )
    if payload.hang_up_after_seconds is not None:
        asyncio.get_running_loop().call_later(payload.hang_up_after_seconds, call.cancel)
    try:
        await call
    except asyncio.CancelledError:
        return "hung up", ""
    except grpc.aio.AioRpcError as error:
        return error.code().name, error.details() or ""
    return "OK", ""


async def fuzz(
    target: Target, by_method: dict[str, PayloadMaker], seed: int, indices: Sequence[int] | None, end: float
) -> None:
    """Send one request after the other until the end, or those asked for."""
    options = [("grpc.max_send_message_length", -1), ("grpc.max_receive_message_length", -1)]
    allowed = ALLOWED if target.name == "gateway" else ALLOWED_AT_STAGES
    methods = list(by_method)
    async with grpc.aio.insecure_channel(f"127.0.0.1:{target.port}", options=options) as channel:
        index = 0
        while time.monotonic() < end and (indices is None or index < len(indices)):
            number = index if indices is None else indices[index]
            index += 1
            method = methods[number % len(methods)]
            payload = by_method[method].make(f"{seed}/{target.name}/{number}")
            started_at = time.monotonic()
            status, text = await send(channel, method, payload)
            sent = Sent(
                index=number,
                method=method,
                kind=payload.kind,
                size=len(payload.data),
                compression=payload.compression.name,
                status=status,
                started_at=started_at,
            )
            target.sent.append(sent)
            if status not in allowed and status != "hung up":
                target.problems.append(f"status {status} ({text[:200]}): {sent.text}")
            if any(leak in text for leak in LEAKS):
                target.problems.append(f"text {text[:200]!r}: {sent.text}")
            if index % 50 == 0:
                target.look_at_memory()


def attribute(target: Target, requests: Sequence[Sent]) -> None:
    """Say for each request how long the event loop was held while it was under way, or until the next one came."""
    lines = [json.loads(line) for line in target.report.read_text().splitlines()]
    position = 0
    for held in sorted(lines, key=lambda line: line["ended_at"]):
        while position + 1 < len(requests) and requests[position + 1].started_at < held["ended_at"]:
            position += 1
        sent = requests[position]
        if held["ended_at"] >= sent.started_at and held["cpu_seconds"] > sent.held_seconds:
            sent.held_seconds = held["cpu_seconds"]
            sent.held_by = held["what"]


async def repeat_longest(target: Target, by_method: dict[str, PayloadMaker], seed: int) -> None:
    """Send again what held the event loop for long: only what does so every time is to blame for it."""
    attribute(target, target.sent)
    for first in [sent for sent in target.sent if sent.held_seconds > HELD_SECONDS]:
        again = replace(target, sent=[])
        await fuzz(again, by_method, seed, [first.index] * REPEATS, float("inf"))
        await asyncio.sleep(0.1)
        attribute(again, again.sent)
        first.held_again_seconds = min(sent.held_seconds for sent in again.sent)
        if first.held_again_seconds > HELD_SECONDS:
            target.problems.append(f"held by {first.held_by}: {first.text}")


def report(target: Target) -> None:
    """Print what was sent to a service, and what was found."""
    print(f"\n{target.name}: {len(target.sent)} requests")
    by_kind: dict[str, list[Sent]] = defaultdict(list)
    for sent in target.sent:
        by_kind[sent.kind].append(sent)
    print(f"  {'kind':<24}{'requests':>10}{'held at most, ms':>18}  statuses")
    for kind, sents in sorted(by_kind.items()):
        statuses = ", ".join(f"{name} {count}" for name, count in Counter(sent.status for sent in sents).most_common())
        longest = max(sent.held_seconds for sent in sents) * 1000
        print(f"  {kind:<24}{len(sents):>10}{longest:>18.1f}  {statuses}")
    print("  longest:")
    for sent in sorted(target.sent, key=lambda sent: -sent.held_seconds)[:5]:
        print(f"    {sent.text}")
    if len(target.resident_bytes) > 10:
        tenth = len(target.resident_bytes) // 10
        early, late = target.resident_bytes[tenth : 2 * tenth], target.resident_bytes[-tenth:]
        print(
            f"  memory: {sum(early) / len(early) / 2**20:.0f} MiB after a tenth of the time, "
            f"{sum(late) / len(late) / 2**20:.0f} MiB at the end, {max(target.resident_bytes) / 2**20:.0f} MiB at most"
        )
    log = target.log.read_text(errors="replace")
    if MARKER in log:
        target.problems.append("the log quotes a request")
    if "internal error" in log or "Traceback" in log:
        target.problems.append("the log has an internal error")
    print(f"  log: {len(log.splitlines())} lines")
    for problem in target.problems[:20]:
        print(f"  PROBLEM: {problem}")
    print(f"  problems: {len(target.problems)}")


def main() -> int:
    """Fuzz and report; 1 where anything was found."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--directory", type=Path, help="keep the release and the logs there")
    parser.add_argument("--only", help="send this request alone, as SERVICE/NUMBER")
    arguments = parser.parse_args()
    name, _, number = (arguments.only or "").partition("/")
    indices = [int(number)] if number else None
    with tempfile.TemporaryDirectory() as temporary:
        directory = arguments.directory or Path(temporary)
        releases = directory / "releases"
        write(PRESET, releases, attributes())
        release_id = current_release_id(releases)
        with Services(releases, directory) as targets:
            end = time.monotonic() + 60 * arguments.minutes

            by_name = {
                target.name: (target, makers(target.name, release_id))
                for target in targets
                if name in ("", target.name)
            }

            async def fuzz_all() -> None:
                await asyncio.gather(*(fuzz(*pair, arguments.seed, indices, end) for pair in by_name.values()))
                for pair in by_name.values():
                    await repeat_longest(*pair, arguments.seed)

            asyncio.run(fuzz_all())
        for target in targets:
            report(target)
    return int(any(target.problems for target in targets))


if __name__ == "__main__":
    sys.exit(main())
