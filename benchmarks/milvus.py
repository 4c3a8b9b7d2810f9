"""`python -m benchmarks.milvus`: the candidate service with Milvus and without: memory, CPU time, latency.

Starts a real Milvus (PyPI's `milvus`) on this machine, publishes a release of the structured catalogue to it, and asks
a candidate service of each kind in turn: one query a call, 200 candidates, 50 watches that are excluded.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.machine import describe_machine
from benchmarks.presets import SMALL, at_size
from benchmarks.processes import cpu_seconds, memory_mebibytes
from benchmarks.releases import ensure_release, load_histories
from tests.engines.milvus_server import milvus_server
from tests.service.process import RunningService, running
from winnow.history import Rows, WatchHistories
from winnow.queries import RetrievalQuery
from winnow.release.reader import current_release_id
from winnow.serving.wire import pack_retrieval_query, unpack_candidates
from winnow.v1 import candidate_pb2, candidate_pb2_grpc

ROUNDS, CALLS_A_ROUND = 6, 100


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--items", type=int, default=100_000)
    parser.add_argument("--width", type=int, default=64)
    parser.add_argument("--directory", type=Path, default=Path("runs/benchmarks"))
    options = parser.parse_args()
    sized = at_size(SMALL, options.items)
    preset = replace(sized, name=f"{sized.name}x{options.width}", embedding_dim=options.width, hidden_dim=options.width)
    releases = ensure_release(preset, options.directory)
    with tempfile.TemporaryDirectory() as scratch, milvus_server(Path(scratch)) as server, ExitStack() as stack:
        started = time.monotonic()
        engine = ["--engine=milvus", f"--engine-address={server.uri}"]
        command = [sys.executable, "-m", "winnow", "publish", current_release_id(releases), f"--releases={releases}"]
        published = subprocess.run([*command, *engine], check=True, stdout=subprocess.PIPE, text=True)
        publish_seconds = time.monotonic() - started
        services = {
            name: stack.enter_context(running("candidate_service", releases, "--log-level=warning", *flags))
            for name, flags in (("embedded", []), ("milvus", engine))
        }
        print(
            json.dumps(
                {
                    "machine": describe_machine(),
                    "items": options.items,
                    "width": options.width,
                    "publish_seconds": round(publish_seconds, 1),
                    "publish_says": [line for line in published.stdout.splitlines() if "recall" in line],
                    **_measure(services, releases, server.process.pid),
                },
                indent=1,
            )
        )


def _measure(services: dict[str, RunningService], releases: Path, milvus_pid: int) -> dict[str, Any]:
    release_id, histories = current_release_id(releases), load_histories(releases)
    seconds: dict[str, list[float]] = {name: [] for name in services}
    used_seconds = dict.fromkeys(services, 0.0)
    overlaps = []
    milvus_cpu_seconds = 0.0
    stubs = {name: candidate_pb2_grpc.CandidateServiceStub(service.channel) for name, service in services.items()}
    for number in range(ROUNDS + 1):
        first = number * CALLS_A_ROUND
        requests = [
            pack_retrieval_query(_query(histories, call % len(histories)), release_id)
            for call in range(first, first + CALLS_A_ROUND)
        ]
        found = {}
        for name, stub in stubs.items():
            pid = services[name].process.pid
            before, milvus_before = cpu_seconds(pid), cpu_seconds(milvus_pid)
            answers, taken = _answers(stub, requests)
            found[name] = answers
            if number:  # the first round warms up
                seconds[name] += taken
                used_seconds[name] += cpu_seconds(pid) - before
                milvus_cpu_seconds += (cpu_seconds(milvus_pid) - milvus_before) * (name == "milvus")
        overlaps += [
            float(np.isin(one, other).mean()) for one, other in zip(found["embedded"], found["milvus"], strict=True)
        ]
    calls = ROUNDS * CALLS_A_ROUND
    return {
        "p50_milliseconds": {name: round(statistics.median(all_) * 1e3, 2) for name, all_ in seconds.items()},
        "cpu_milliseconds": {name: round(used / calls * 1e3, 2) for name, used in used_seconds.items()},
        "cpu_milliseconds_of_milvus": round(milvus_cpu_seconds / calls * 1e3, 2),
        "resident_mebibytes": {
            name: memory_mebibytes(service.process.pid)["VmRSS"] for name, service in services.items()
        },
        "resident_mebibytes_of_milvus": memory_mebibytes(milvus_pid)["VmRSS"],
        "share_of_the_embedded_candidates_found": round(statistics.mean(overlaps), 4),
    }


def _query(histories: WatchHistories, user: int) -> RetrievalQuery:
    history = histories.slice(user, user + 1)
    return RetrievalQuery(histories=history, counts=np.array([200], dtype=np.int32), exclusions=history)


def _answers(stub: Any, requests: list[candidate_pb2.RetrieveCandidatesRequest]) -> tuple[list[Rows], list[float]]:
    """Send one request after the other; return the candidates and the seconds of each."""
    answers, seconds = [], []
    for request in requests:
        started = time.monotonic()
        answer = stub.RetrieveCandidates(request, timeout=10)
        seconds.append(time.monotonic() - started)
        answers.append(unpack_candidates(answer).rows.rows)
    return answers, seconds


if __name__ == "__main__":
    main()
