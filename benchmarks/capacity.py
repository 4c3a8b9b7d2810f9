"""`python -m benchmarks.capacity`: measures what a request costs each service, and checks the simulation against loads.

Needs an idle machine with two cores and takes about five minutes. It writes benchmarks/capacity.json, and the model
that `winnow plan` reads: winnow/capacity/cost_model.json. With --report-only it measures nothing and writes both again.
"""

import argparse
import json
import os
import resource
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.capacity_fit import MODULES, SATURATING_CALLERS, calibration, fitted, idle_model, paper_model
from benchmarks.machine import describe_machine
from benchmarks.presets import SMALL
from benchmarks.processes import cpu_seconds
from benchmarks.releases import ensure_release, load_requests
from benchmarks.systems import HOST, QUIET
from tests.faults.cluster import Cluster
from winnow.capacity.cost_model import SHIPPED_FILE, CostModel
from winnow.capacity.simulation import Scenario, Simulated, simulate
from winnow.loadtest.load import Load
from winnow.loadtest.measured import Measured
from winnow.loadtest.processes import run_load
from winnow.metrics_endpoint import fetch_metrics
from winnow.serving.local_stack import free_port

LOADS = (0.2, 0.45, 0.7)
"""Shares of the saturated rate."""
REPLICA_COUNTS = (1, 2)
"""Of both stages."""
RESULTS = Path("benchmarks/results.json")


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


def measure(releases: Path, requests: list[bytes], answer_length: int, seconds: float) -> dict[str, Any]:
    """Put all loads on all stacks. Return JSON values."""

    def load(stack: Stack, **kind: Any) -> Measured:
        return run_load(
            Load(
                target=stack.cluster.gateway.target,
                requests=requests,
                answer_length=answer_length,
                timeout_seconds=30.0,
                **kind,
            )
        )

    def closed(stack: Stack, callers: int, seconds: float) -> dict[str, Any]:
        cpu_before, (queries_before, batches_before) = stack.cpu_seconds(), stack.batches()
        client_before = _client_seconds()
        measured = load(stack, concurrency=callers, seconds=seconds, warm_up_seconds=0.5)
        queries, batches = stack.batches()
        # Those of the warm-up are in it, as is their CPU time.
        count = queries - queries_before
        return {
            "rate_per_second": measured.rate_per_second,
            "p50_seconds": measured.milliseconds("p50") / 1000,
            "p99_seconds": measured.milliseconds("p99") / 1000,
            "request_count": count,
            "batch": count / (batches - batches_before),
            "cpu_seconds": {role: (stack.cpu_seconds()[role] - cpu_before[role]) / count for role in MODULES},
            "client_seconds": _client_seconds() - client_before,
        }

    found: dict[str, Any] = {"points": [], "busy_speed": busy_speed()}
    rates: list[float] = []
    for replica_count in REPLICA_COUNTS:
        with running_stack(releases, replica_count) as stack:
            if not rates:
                load(stack, concurrency=8, seconds=1.0)  # the first calls are slower
                found["alone"] = closed(stack, 1, seconds)
                found["saturated"] = closed(stack, SATURATING_CALLERS, seconds)
                found["saturated_longer"] = closed(stack, SATURATING_CALLERS, 2 * seconds)
                rates = [share * found["saturated_longer"]["rate_per_second"] for share in LOADS]
            for rate in rates:
                measured = load(stack, rate_per_second=rate, seconds=2 * seconds)
                found["points"].append(
                    {
                        "replicas": replica_count,
                        "rate_per_second": rate,
                        "answered_per_second": measured.rate_per_second,
                        "p50_milliseconds": measured.milliseconds("p50"),
                        "p99_milliseconds": measured.milliseconds("p99"),
                        "failed_count": measured.failed_count,
                    }
                )
                print(found["points"][-1], flush=True)
    return found


def busy_speed(seconds: float = 2.0) -> float:
    """Return how fast a core is while all are busy, relative to one that is busy alone. By CPU time."""
    with ProcessPoolExecutor(os.cpu_count()) as processes:
        alone = processes.submit(_spin, seconds).result()
        together = list(processes.map(_spin, [seconds] * (os.cpu_count() or 1)))
    return min(1.0, sum(together) / len(together) / alone)


def _spin(seconds: float) -> float:
    """Return how many rounds of work a second of CPU time does."""
    started, ends = time.process_time(), time.monotonic() + seconds
    rounds = 0
    while time.monotonic() < ends:
        json.loads(json.dumps({str(number): [number] * 10 for number in range(100)}))
        rounds += 1
    return rounds / (time.process_time() - started)


def _client_seconds() -> float:
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def predicted(model: CostModel, rate: float, replicas: int, cores: int) -> Simulated:
    """Simulate a load on this machine: all processes and the client share its cores."""
    return simulate(
        Scenario.of(
            model,
            candidate_replicas=replicas,
            ranking_replicas=replicas,
            rate_per_second=rate,
            request_count=3000,
            cores=cores,
            client_seconds=model.client_seconds,
            busy_speed=model.busy_speed,
        )
    )


def compare(model: CostModel, points: list[dict[str, Any]], cores: int) -> list[dict[str, Any]]:
    """Return predicted and measured latencies side by side."""
    compared = []
    for point in points:
        simulated = predicted(model, point["rate_per_second"], point["replicas"], cores)
        row = {"replicas": point["replicas"], "rate_per_second": round(point["rate_per_second"])}
        for name, share in (("p50", 0.5), ("p99", 0.99)):
            measured = point[f"{name}_milliseconds"]
            row[f"{name}_measured"] = round(measured, 1)
            row[f"{name}_predicted"] = round(simulated.milliseconds(share), 1)
            row[f"{name}_ratio"] = round(simulated.milliseconds(share) / measured, 2)
        compared.append(row)
    return compared


def idle_points(results: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the open loops of results.json, from an idle machine."""
    return [
        {
            "replicas": 1,
            "rate_per_second": point["offered_rate_per_second"],
            "p50_milliseconds": point["latency_milliseconds"]["p50"],
            "p99_milliseconds": point["latency_milliseconds"]["p99"],
        }
        for point in results["presets"]["small"]["serving"]["open_loop"]
    ]


def table(rows: list[dict[str, Any]]) -> Iterator[str]:
    """Yield the lines of a table in Markdown."""
    yield "| replicas of each stage | requests a second | p50 measured | p50 predicted | p99 measured | p99 predicted |"
    yield "|---|---|---|---|---|---|"
    for row in rows:
        cells = [
            f"{row[f'{name}_measured']} | {row[f'{name}_predicted']} ({row[f'{name}_ratio']})"
            for name in ("p50", "p99")
        ]
        yield f"| {row['replicas']} | {row['rate_per_second']} | {' | '.join(cells)} |"


def main() -> None:
    """Measure, fit, compare, write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path, default=Path("benchmarks/capacity.json"))
    parser.add_argument("--releases", type=Path, default=Path("runs/benchmarks"))
    parser.add_argument("--seconds", type=float, default=8, help="of a closed loop; the others take twice as long")
    parser.add_argument("--model", type=Path, default=Path("winnow/capacity") / SHIPPED_FILE)
    parser.add_argument("--report-only", action="store_true", help="fit and compare what has been measured before")
    arguments = parser.parse_args()
    if arguments.report_only:
        found = json.loads(arguments.output.read_text())
    else:
        releases = ensure_release(SMALL, arguments.releases)
        requests = load_requests(releases, SMALL.answer_length)
        found = {
            "machine": describe_machine(),
            "measured": measure(releases, requests, SMALL.answer_length, arguments.seconds),
        }
    results = json.loads(RESULTS.read_text())
    found["measured"].setdefault("busy_speed", 1.0)
    measured = calibration(found["measured"])
    cores = found["machine"]["cores"]
    model = fitted(measured, results, "python -m benchmarks.capacity", cores)
    idle = idle_model(measured, results)
    found["model"] = model.model_dump(mode="json")
    found["compared"] = compare(model, found["measured"]["points"], cores)
    found["compared_with_results"] = compare(idle, idle_points(results), results["machine"]["cores"])
    arguments.output.write_text(json.dumps(found, indent=1) + "\n")
    arguments.model.write_text(paper_model(idle, results).model_dump_json(indent=1) + "\n")
    print("This run:", *table(found["compared"]), "", "results.json:", *table(found["compared_with_results"]), sep="\n")


if __name__ == "__main__":
    main()
