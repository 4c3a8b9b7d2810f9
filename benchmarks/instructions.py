"""What a recommendation costs the gateway in instructions, by library: `python -m benchmarks.instructions`.

Times on a shared machine vary by a quarter; this count varies by a hundredth, so two checkouts can be compared beside
other work. Needs valgrind. Only the gateway runs under it; what the kernel does is not counted.
"""

import argparse
import asyncio
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TextIO

import grpc

from benchmarks.presets import SMALL
from benchmarks.releases import ensure_release, load_requests
from benchmarks.systems import HOST, QUIET, quiet_stack
from tests.service.process import wait_until_healthy
from winnow.serving.local_stack import LocalStack, free_port

METHOD = "/winnow.v1.RecommendationService/RecommendItems"
WARM_UP_REQUESTS = 100
START_TIMEOUT_SECONDS = 180
FLAGS = ["--default-timeout-seconds=60", "--max-timeout-seconds=60"]


def main() -> None:
    """Print thousands of instructions a request."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--requests", type=int, default=320)
    parser.add_argument("--callers", type=int, default=16, help="each with a connection of its own")
    parser.add_argument("--transport", choices=("grpc", "native"), default="grpc")
    parser.add_argument("--directory", type=Path, default=Path("runs/benchmarks"))
    options = parser.parse_args()
    releases = ensure_release(SMALL, options.directory)
    requests = load_requests(releases, SMALL.answer_length)
    flags = [*FLAGS, f"--transport={options.transport}"]
    with quiet_stack(releases, all=flags) as stack:
        instructions, sent_count = count_instructions(
            stack, releases, requests, flags, options.requests, options.callers
        )
    print(f"{sum(instructions.values()) / sent_count / 1000:9.1f} thousand instructions a request")
    for library, count in instructions.most_common(8):
        print(f"{count / sent_count / 1000:9.1f} {library}")


def count_instructions(
    stack: LocalStack, releases: Path, requests: list[bytes], flags: list[str], request_count: int, callers: int
) -> tuple[Counter[str], int]:
    """Start a gateway with these flags beside a stack and return its instructions by library, for how many requests."""
    with tempfile.TemporaryDirectory() as scratch:
        profile = Path(scratch) / "callgrind.out"
        port = free_port(HOST)
        gateway = subprocess.Popen(
            [
                *("valgrind", "--quiet", "--tool=callgrind", "--instr-atstart=no"),
                f"--callgrind-out-file={profile}",
                *(sys.executable, "-m", "gateway", f"--releases={releases}", f"--port={port}", *QUIET, *flags),
                f"--candidate-target={stack.address('candidate_service')}",
                f"--ranking-target={stack.address('ranking_service')}",
            ]
        )
        try:
            wait_until_healthy(gateway, f"{HOST}:{port}", START_TIMEOUT_SECONDS)
            asyncio.run(_send(f"{HOST}:{port}", requests, WARM_UP_REQUESTS, callers))
            _switch(gateway.pid, "on")
            sent_count = asyncio.run(_send(f"{HOST}:{port}", requests, request_count, callers))
            _switch(gateway.pid, "off")
        finally:
            gateway.terminate()
            gateway.wait()
        with profile.open(errors="replace") as lines:
            return instructions_by_library(lines), sent_count


def _switch(process_id: int, state: str) -> None:
    command = ["callgrind_control", f"--instr={state}", str(process_id)]
    subprocess.run(command, check=True, capture_output=True)


async def _send(target: str, requests: list[bytes], count: int, callers: int) -> int:
    """Send at least `count` requests and return how many."""
    each = -(-count // callers)

    async def caller(number: int) -> None:
        options = [("grpc.use_local_subchannel_pool", 1)]
        async with grpc.aio.insecure_channel(target, options=options) as channel:
            call: Callable[..., Awaitable[bytes]] = channel.unary_unary(METHOD)
            for turn in range(each):
                await call(requests[(number * each + turn) % len(requests)], timeout=60)

    await asyncio.gather(*map(caller, range(callers)))
    return each * callers


def instructions_by_library(lines: TextIO) -> Counter[str]:
    """Read a profile in callgrind's format: the instructions of each object file, without those that it calls."""
    names: dict[str, str] = {}
    instructions: Counter[str] = Counter()
    library = ""
    is_call = False
    for line in lines:
        key, _, value = line.rstrip().partition("=")
        if key in ("ob", "cob"):
            # A name is written out once, behind its number.
            number, _, name = value.partition(" ")
            names.setdefault(number, Path(name).name)
            library = names[number] if key == "ob" else library
        elif key == "calls":
            is_call = True
        elif line[:1].isdigit() or line[:1] in "+-*":
            # The line after a call has what the callee took.
            if not is_call:
                instructions[library] += int(line.split()[1])
            is_call = False
    return instructions


if __name__ == "__main__":
    main()
