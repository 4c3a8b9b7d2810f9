"""`python -m benchmarks.capacity`: measures what a request costs each service, and checks the simulation against loads.

Needs an idle machine with two cores and takes about five minutes. It writes benchmarks/capacity.json, and the model
that `winnow plan` reads: winnow/capacity/cost_model.json. With --report-only it measures nothing and writes both again.
"""

import argparse
import json
import math
import os
import resource
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.machine import describe_machine
from benchmarks.presets import PRESETS, Preset
from benchmarks.releases import ensure_release, load_requests
from benchmarks.systems import cpu_seconds
from winnow.capacity.cost_model import SHIPPED_FILE, CostModel, NetworkCost, SearchCost, ServiceCost
from winnow.capacity.simulation import Scenario, Simulated, simulate
from winnow.loadtest.load import Load
from winnow.loadtest.measured import Measured
from winnow.loadtest.processes import run_load
from winnow.rpc.health import healthy
from winnow.serving.local_stack import free_port

ROLES = ("gateway", "candidate", "ranking")
MODULES = {"gateway": "gateway", "candidate": "candidate_service", "ranking": "ranking_service"}
SATURATING_CALLERS = 64
LOADS = (0.2, 0.45, 0.7)
"""Shares of the saturated rate."""
REPLICA_COUNTS = (1, 2)
"""Of both stages."""
HOST = "127.0.0.1"
MEBIBYTE = 2**20
# Prices of the tables of a network: float32.
BYTES_PER_NUMBER = 4
# Of the machine of results.json, where it was not measured: chosen on the loads at 20 and 55 % there, so that only the
# other three check the simulation.
IDLE_BUSY_SPEED = 0.6
RESULTS = Path("benchmarks/results.json")
GROWTH_BY_HAND = Path("benchmarks/growth_by_hand.json")


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """Two closed loops on a stack without further replicas: one caller, and as many as saturate it."""

    alone_seconds: Mapping[str, float]
    """CPU time of a request in each service, where each batch has one."""
    saturated_seconds: Mapping[str, float]
    saturated_batch: float
    """Requests in a batch then."""
    client_seconds: float
    """CPU time of a request in the load client."""
    alone_p50_seconds: float
    alone_p99_seconds: float
    busy_speed: float
    """See CostModel.busy_speed."""


class Stack:
    """The services as processes, with so many replicas of each stage."""

    def __init__(self, releases: Path, replica_count: int) -> None:
        self._releases = releases
        self._replica_count = replica_count
        self._processes: dict[str, list[subprocess.Popen[bytes]]] = {role: [] for role in ROLES}
        self._metrics_port = free_port(HOST)
        self.target = f"{HOST}:{free_port(HOST)}"

    def __enter__(self) -> "Stack":
        targets = {}
        for role in ("candidate", "ranking"):
            ports = [self._start(role) for _ in range(self._replica_count)]
            targets[role] = ",".join(f"{HOST}:{port}" for port in ports)
        self._start(
            "gateway",
            f"--candidate-target=ipv4:{targets['candidate']}",
            f"--ranking-target=ipv4:{targets['ranking']}",
            f"--metrics-port={self._metrics_port}",
            port=int(self.target.rpartition(":")[2]),
        )
        return self

    def __exit__(self, *_: object) -> None:
        processes = [process for started in self._processes.values() for process in started]
        for process in processes:
            process.terminate()
        for process in processes:
            process.wait()

    def _start(self, role: str, *flags: str, port: int = 0) -> int:
        port = port or free_port(HOST)
        own = [f"--releases={self._releases}", f"--port={port}", "--drain-seconds=0", "--log-level=warning"]
        process = subprocess.Popen([sys.executable, "-m", MODULES[role], *own, *flags])
        self._processes[role].append(process)
        give_up = time.monotonic() + 120
        while not healthy(f"{HOST}:{port}"):
            if process.poll() is not None or time.monotonic() > give_up:
                raise RuntimeError(f"{role} did not start")
            time.sleep(0.1)
        return port

    def cpu_seconds(self) -> dict[str, float]:
        """Return the CPU time that each service has used so far."""
        return {role: sum(cpu_seconds(process.pid) for process in self._processes[role]) for role in ROLES}

    def batches(self) -> tuple[float, float]:
        """Return how many requests, in how many batches, the gateway has dispatched so far."""
        with urllib.request.urlopen(f"http://{HOST}:{self._metrics_port}/metrics", timeout=10) as response:
            lines = response.read().decode().splitlines()

        def value(name: str) -> float:
            label = '{queue="recommend"}'
            return sum(float(line.split()[-1]) for line in lines if line.startswith(f"winnow_batch_size_{name}{label}"))

        return value("sum"), value("count")


def measure(releases: Path, requests: list[bytes], answer_length: int, seconds: float) -> dict[str, Any]:
    """Put all loads on all stacks. Return JSON values."""

    def load(stack: Stack, **kind: Any) -> Measured:
        return run_load(
            Load(target=stack.target, requests=requests, answer_length=answer_length, timeout_seconds=30.0, **kind)
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
            "cpu_seconds": {role: (stack.cpu_seconds()[role] - cpu_before[role]) / count for role in ROLES},
            "client_seconds": _client_seconds() - client_before,
        }

    found: dict[str, Any] = {"points": [], "busy_speed": busy_speed()}
    rates: list[float] = []
    for replica_count in REPLICA_COUNTS:
        with Stack(releases, replica_count) as stack:
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


def calibration(measured: Mapping[str, Any]) -> Calibration:
    """Read what `measure` has returned."""
    shorter, longer, alone = measured["saturated"], measured["saturated_longer"], measured["alone"]
    # A client process spends a second on its start, in both alike.
    more_requests = longer["request_count"] - shorter["request_count"]
    return Calibration(
        alone_seconds=alone["cpu_seconds"],
        saturated_seconds=longer["cpu_seconds"],
        saturated_batch=longer["batch"],
        client_seconds=max((longer["client_seconds"] - shorter["client_seconds"]) / more_requests, 1e-5),
        alone_p50_seconds=alone["p50_seconds"],
        alone_p99_seconds=alone["p99_seconds"],
        busy_speed=measured["busy_speed"],
    )


def idle_calibration(measured: Calibration, serving: Mapping[str, Any]) -> Calibration:
    """Return the totals of results.json, from an idle machine, split between the services as measured here."""

    def split(seconds: Mapping[str, float], load: str) -> dict[str, float]:
        total = serving[load]["winnow"]["cpu_microseconds_per_request"] / 1e6
        return {role: total * seconds[role] / sum(seconds.values()) for role in ROLES}

    latency = serving["alone"]["winnow"]["latency_milliseconds"]
    saturated = serving["saturated"]["winnow"]
    return Calibration(
        alone_seconds=split(measured.alone_seconds, "alone"),
        saturated_seconds=split(measured.saturated_seconds, "saturated"),
        # What arrives during one batch is the next one, and waits for half of it.
        saturated_batch=2 * saturated["parts_mean_milliseconds"]["wait"] / 1000 * saturated["rate_per_second"],
        # The no-op server has one core, its client the other.
        client_seconds=1 / serving["saturated"]["noop_single_hop"]["rate_per_second"],
        alone_p50_seconds=latency["p50"] / 1000,
        alone_p99_seconds=latency["p99"] / 1000,
        busy_speed=IDLE_BUSY_SPEED,
    )


def fitted(found: Calibration, results: Mapping[str, Any], preset: Preset, measured: str, cores: int) -> CostModel:
    """Return the model of the preset that the calibration was made with."""
    costs = {}
    for role in ROLES:
        alone, batch = found.alone_seconds[role], found.saturated_batch
        saturated = found.saturated_seconds[role] * found.busy_speed
        # alone = call + query; saturated = call / batch + query.
        per_query = max((saturated - alone / batch) / (1 - 1 / batch), saturated / 10)
        base, per_item = _memory(results, MODULES[role])
        costs[role] = ServiceCost(
            seconds_per_call=max(alone - per_query, 0.0),
            seconds_per_query=per_query,
            base_bytes=base,
            bytes_per_item=per_item,
        )
    paper = next(each for each in PRESETS if each.name == "paper")
    growth = [*results["growth"], *json.loads(GROWTH_BY_HAND.read_text())]
    model = CostModel(
        measured=measured,
        item_count=preset.item_count,
        **costs,
        search=tuple(
            SearchCost(item_count=point["item_count"], seconds=point["approximate_milliseconds"] / 1000)
            for point in growth
        ),
        vector_bytes_per_item=_vector_bytes(results, paper),
        network=_network(preset, results),
        path_share=1.0,
        hop_seconds=0.0,
        # Of the sum of about eight pieces of work in a row, most of them equal.
        jitter=math.log(found.alone_p99_seconds / found.alone_p50_seconds) / 2.326 * math.sqrt(5),
        busy_speed=found.busy_speed,
        client_seconds=found.client_seconds,
    )
    return _with_path(model, found.alone_p50_seconds, cores)


def _with_path(model: CostModel, p50_seconds: float, cores: int) -> CostModel:
    """Return the model with the share of work, or the time of messages, that explains the latency of one caller."""

    def alone(model: CostModel) -> float:
        scenario = Scenario.of(
            model, candidate_replicas=1, ranking_replicas=1, callers=1, request_count=300, cores=cores,
            client_seconds=model.client_seconds, busy_speed=model.busy_speed,
        )  # fmt: skip
        return simulate(scenario).milliseconds(0.5) / 1000

    if (missing := p50_seconds - alone(model)) > 0:
        return model.model_copy(update={"hop_seconds": missing / 6})
    low, high = 0.05, 1.0
    for _ in range(6):
        share = (low + high) / 2
        if alone(model.model_copy(update={"path_share": share})) < p50_seconds:
            low = share
        else:
            high = share
    return model.model_copy(update={"path_share": (low + high) / 2})


def idle_model(measured: Calibration, results: Mapping[str, Any], preset: Preset) -> CostModel:
    """Return the preset's model from results.json."""
    found = idle_calibration(measured, results["presets"][preset.name]["serving"])
    return fitted(found, results, preset, "results.json", results["machine"]["cores"])


def paper_model(small: CostModel, results: Mapping[str, Any]) -> CostModel:
    """Return the model of the paper's networks over a million items: the same messages, other computations.

    A computation takes longer in a service than alone, in which it has the caches to itself: by the factor that
    explains the CPU time of the saturated services.
    """
    presets = results["presets"]

    def computed(preset: str, *names: str) -> float:
        computations = presets[preset]["arithmetic"]["computations"]
        return float(sum(computations[name]["milliseconds_per_request"] for name in names)) / 1000

    names = {"candidate": ("candidate tower", "served search"), "ranking": ("ranking, folded, bfloat16",)}
    messages = {
        role: getattr(small, role).seconds_per_query - computed("small", *names.get(role, ())) for role in ROLES
    }
    messages = {role: max(seconds, 2e-5) for role, seconds in messages.items()}
    calls = sum(getattr(small, role).seconds_per_call for role in ROLES)
    total = presets["paper"]["serving"]["saturated"]["winnow"]["cpu_microseconds_per_request"] / 1e6 * small.busy_speed
    batch = SATURATING_CALLERS / 2
    factor = (total - sum(messages.values()) - calls / batch) / sum(computed("paper", *names[role]) for role in names)
    costs = {
        role: getattr(small, role).model_copy(
            update={"seconds_per_query": messages[role] + factor * computed("paper", *names.get(role, ()))}
        )
        for role in ROLES
    }
    item_count = float(presets["paper"]["shape"]["item_count"])
    # The sizes were measured one query at a time, the service's search in batches: they give the growth, it the level.
    level = factor * computed("paper", "served search") / small.search_seconds(item_count)
    search = tuple(SearchCost(item_count=point.item_count, seconds=level * point.seconds) for point in small.search)
    processor = results["machine"]["processor"]
    measured = f"the paper's networks over a million items on {processor}; python -m benchmarks.capacity"
    return small.model_copy(update={"measured": measured, "item_count": item_count, "search": search, **costs})


def _memory(results: Mapping[str, Any], service: str) -> tuple[float, float]:
    """Base and bytes an item of one release, from the memory of both presets."""
    small, paper = (results["presets"][name] for name in ("small", "paper"))
    sizes = [preset["serving"]["memory_mebibytes"][service]["resident"] * MEBIBYTE for preset in (small, paper)]
    counts = [preset["shape"]["item_count"] for preset in (small, paper)]
    per_item = (sizes[1] - sizes[0]) / (counts[1] - counts[0])
    return sizes[0] - per_item * counts[0], per_item


def _vector_bytes(results: Mapping[str, Any], paper: Preset) -> float:
    index = results["presets"]["paper"]["release"]["file_mebibytes"]["index.faiss"] * MEBIBYTE / paper.item_count
    return float(paper.embedding_dim * BYTES_PER_NUMBER + index)


def _network(preset: Preset, results: Mapping[str, Any]) -> NetworkCost:
    """Ids at the edge are text; between the services everything is packed: rows, scores, offsets of four bytes."""
    shape = results["presets"]["small"]["shape"]
    history = (shape["history_length"] + 1) * BYTES_PER_NUMBER
    candidates = shape["candidate_count"] * BYTES_PER_NUMBER
    id_bytes = 12
    return NetworkCost(
        request=shape["history_length"] * (id_bytes + 12),
        answer=preset.answer_length * (id_bytes + 40) + 200,
        # Watched items are excluded: their rows are sent twice.
        retrieve_request=2 * history + BYTES_PER_NUMBER,
        retrieve_answer=2 * candidates,
        rank_request=history + candidates,
        rank_answer=candidates,
    )


def predicted(model: CostModel, rate: float, replicas: int, cores: int, request_count: int = 3000) -> Simulated:
    """Simulate a load on this machine: all processes and the client share its cores."""
    return simulate(
        Scenario.of(
            model,
            candidate_replicas=replicas,
            ranking_replicas=replicas,
            rate_per_second=rate,
            request_count=request_count,
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
    preset = next(each for each in PRESETS if each.name == "small")
    if arguments.report_only:
        found = json.loads(arguments.output.read_text())
    else:
        releases = ensure_release(preset, arguments.releases)
        requests = load_requests(releases, preset.answer_length)
        found = {
            "machine": describe_machine(),
            "measured": measure(releases, requests, preset.answer_length, arguments.seconds),
        }
    results = json.loads(RESULTS.read_text())
    found["measured"].setdefault("busy_speed", 1.0)
    measured = calibration(found["measured"])
    cores = found["machine"]["cores"]
    model = fitted(measured, results, preset, "python -m benchmarks.capacity", cores)
    idle = idle_model(measured, results, preset)
    found["model"] = model.model_dump(mode="json")
    found["compared"] = compare(model, found["measured"]["points"], cores)
    found["compared_with_results"] = compare(idle, idle_points(results), results["machine"]["cores"])
    arguments.output.write_text(json.dumps(found, indent=1) + "\n")
    arguments.model.write_text(paper_model(idle, results).model_dump_json(indent=1) + "\n")
    print("This run:", *table(found["compared"]), "", "results.json:", *table(found["compared_with_results"]), sep="\n")


if __name__ == "__main__":
    main()
