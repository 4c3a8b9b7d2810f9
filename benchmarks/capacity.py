"""`python -m benchmarks.capacity`: measures what a request costs each service, and checks the simulation against loads.

Needs an idle machine with two cores and takes about six minutes. It writes benchmarks/capacity.json, the model that
`winnow plan` reads, winnow/capacity/cost_model.json, and the tables of docs/capacity.md. With --report-only it measures
nothing and writes all three again.
"""

import argparse
import json
import os
import resource
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks import capacity_page
from benchmarks.capacity_fit import MODULES, RESULTS, SATURATING_CALLERS, closed_loops, fitted, paper_model
from benchmarks.machine import describe_machine
from benchmarks.presets import SMALL
from benchmarks.processes import cpu_seconds
from benchmarks.releases import ensure_release, load_requests
from benchmarks.systems import HOST, QUIET
from tests.faults.cluster import Cluster
from winnow.capacity.cost_model import SHIPPED_FILE
from winnow.loadtest.load import Load
from winnow.loadtest.processes import run_load
from winnow.metrics_endpoint import fetch_metrics
from winnow.serving.local_stack import free_port

CALLERS = (1, 8, SATURATING_CALLERS)
"""Of the closed loops, which the model is fitted to."""
LOADS = (0.2, 0.45, 0.7)
"""Of the open loops, which check it: shares of the saturated rate."""
REPLICA_COUNTS = (1, 2)
"""Of both stages. The model is fitted to the first."""
WARM_UP_SECONDS = 0.5


@dataclass(frozen=True, kw_only=True)
class Stack:
    """The services as processes, with so many replicas of each stage."""

    cluster: Cluster
    metrics_port: int

    def cpu_seconds(self) -> dict[str, float]:
        """Return the CPU time that each service has used so far, by its role."""
        return {
            role: sum(cpu_seconds(replica.process.pid) for replica in self.cluster.replicas[module] if replica.process)
            for role, module in MODULES.items()
        }

    def batches(self) -> tuple[float, float]:
        """Return how many requests, in how many batches, the gateway has dispatched so far."""
        lines = fetch_metrics(f"http://{HOST}:{self.metrics_port}/metrics").splitlines()

        def value(name: str) -> float:
            label = '{queue="recommend"}'
            return sum(float(line.split()[-1]) for line in lines if line.startswith(f"winnow_batch_size_{name}{label}"))

        return value("sum"), value("count")


@contextmanager
def running_stack(releases: Path, replica_count: int) -> Iterator[Stack]:
    """Run the services until the block ends."""
    port = free_port(HOST)
    with Path(os.devnull).open("wb") as log:
        cluster = Cluster(releases, log, replica_count, [f"--metrics-port={port}"], flags=QUIET)
        try:
            cluster.start()
            yield Stack(cluster=cluster, metrics_port=port)
        finally:
            cluster.stop()


def measure(
    releases: Path, requests: list[bytes], answer_length: int, seconds: float, round_count: int
) -> list[dict[str, Any]]:
    """Put each load on each stack in every round, so that a slow minute affects all. Return JSON values."""
    loads = []
    with ExitStack() as running:
        stacks = {count: running.enter_context(running_stack(releases, count)) for count in REPLICA_COUNTS}

        def put(count: int, seconds: float = seconds, **kind: Any) -> dict[str, Any]:
            load = Load(
                target=stacks[count].cluster.gateway.target,
                requests=requests,
                answer_length=answer_length,
                seconds=seconds,
                warm_up_seconds=WARM_UP_SECONDS,
                timeout_seconds=30.0,
                **kind,
            )
            return {"replicas": count, **kind} | _put(stacks[count], load)

        for count in REPLICA_COUNTS:
            put(count, 1.0, concurrency=8)  # the first calls are slower
        for number in range(round_count):
            closed = [put(REPLICA_COUNTS[0], concurrency=callers) for callers in CALLERS]
            if number == 0:
                rates = [share * closed[-1]["answered_per_second"] for share in LOADS]
            opened = [put(count, rate_per_second=rate) for rate in rates for count in REPLICA_COUNTS]
            for load in (*closed, *opened):
                loads.append({"round": number, **load})
                print(json.dumps(loads[-1]), flush=True)
    return loads


def _put(stack: Stack, load: Load) -> dict[str, Any]:
    busy_before, all_before = _machine_seconds()
    clients_before, before = _children_seconds(), stack.cpu_seconds()
    queries_before, batches_before = stack.batches()
    measured = run_load(load)
    after, (queries, batches) = stack.cpu_seconds(), stack.batches()
    busy, everything = _machine_seconds()
    used = {role: after[role] - before[role] for role in MODULES}
    others = busy - busy_before - sum(used.values()) - (_children_seconds() - clients_before)
    # Those of the warm-up are in it, as is their CPU time.
    count = queries - queries_before
    return {
        "answered_per_second": measured.rate_per_second,
        "p50_milliseconds": measured.milliseconds("p50"),
        "p99_milliseconds": measured.milliseconds("p99"),
        "failed_count": measured.failed_count,
        "batch": count / (batches - batches_before),
        "cpu_seconds": {role: seconds / count for role, seconds in used.items()},
        "client_seconds": measured.client_cpu_seconds / count,
        "others_share": max(others, 0.0) / (everything - all_before),
    }


def _machine_seconds() -> tuple[float, float]:
    """CPU time that was used or stolen so far, by whomever, and all there was."""
    fields = [int(field) for field in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]]
    idle = fields[3] + fields[4]
    ticks = os.sysconf("SC_CLK_TCK")
    return (sum(fields) - idle) / ticks, sum(fields) / ticks


def _children_seconds() -> float:
    """CPU time of the load clients that have ended."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def main() -> None:
    """Measure, fit, compare, write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path, default=Path("benchmarks/capacity.json"))
    parser.add_argument("--releases", type=Path, default=Path("runs/benchmarks"))
    parser.add_argument("--seconds", type=float, default=5, help="of each load in each round")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--model", type=Path, default=Path("winnow/capacity") / SHIPPED_FILE)
    parser.add_argument("--page", type=Path, default=Path("docs/capacity.md"))
    parser.add_argument("--report-only", action="store_true", help="fit and compare what has been measured before")
    arguments = parser.parse_args()
    if arguments.report_only:
        found = json.loads(arguments.output.read_text())
    else:
        releases = ensure_release(SMALL, arguments.releases)
        requests = load_requests(releases, SMALL.answer_length)
        found = {
            "machine": describe_machine(),
            "load_average": os.getloadavg()[0],
            "loads": measure(releases, requests, SMALL.answer_length, arguments.seconds, arguments.rounds),
        }
        # What took minutes is kept, whatever becomes of the rest.
        arguments.output.write_text(json.dumps(found, indent=1) + "\n")
    results: Mapping[str, Any] = json.loads(RESULTS.read_text())
    cores = found["machine"]["cores"]
    small = fitted(closed_loops(found["loads"]), results, cores)
    paper = paper_model(small, results)
    found["model"] = small.model_dump(mode="json")
    found["compared"] = capacity_page.compare(small, found["loads"], cores)
    arguments.output.write_text(json.dumps(found, indent=1) + "\n")
    arguments.model.write_text(paper.model_dump_json(indent=1) + "\n")
    print(*capacity_page.checked(found), sep="\n", flush=True)
    capacity_page.write(arguments.page, found, paper)


if __name__ == "__main__":
    main()
