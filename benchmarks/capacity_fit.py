"""The cost model that is fitted to the closed loops of `python -m benchmarks.capacity`, and that of larger networks."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.presets import PAPER, SMALL
from winnow.capacity.cost_model import CostModel, NetworkCost, SearchCost, ServiceCost
from winnow.capacity.simulation import Scenario, Simulated, simulate

MODULES = {"gateway": "gateway", "candidate": "candidate_service", "ranking": "ranking_service"}
"""By the role of a service in the cost model."""
# How often a request alone wakes each: the gateway by the request and by the answer of each stage.
WAKES = {"gateway": 3, "candidate": 1, "ranking": 1}
SATURATING_CALLERS = 64
BUSY_SPEEDS = (1.0, 0.9, 0.8, 0.7, 0.6, 0.5)
# Pieces of a request that vary by themselves, and for how long the others vary together, in seconds.
JITTERS = ((5, 0.0), (5, 0.005), (2, 0.005), (5, 0.02), (2, 0.02))
SHARES = {"p50": 0.5, "p99": 0.99}
Z_99 = 2.326
"""Standard deviations from the median to the 99th percentile."""
MEBIBYTE = 2**20
# Prices of the tables of a network: float32.
BYTES_PER_NUMBER = 4
RESULTS = Path("benchmarks/results.json")
GROWTH_BY_HAND = Path("benchmarks/growth_by_hand.json")


@dataclass(frozen=True, kw_only=True)
class ClosedLoop:
    """What so many callers saw, on a stack with one replica of each stage: medians over the rounds."""

    callers: int
    cpu_seconds: Mapping[str, float]
    """CPU time of a request in each service."""
    client_seconds: float
    """CPU time of a request in the load client."""
    batch: float
    """Requests in a batch."""
    p50_seconds: float
    p99_seconds: float


def closed_loops(loads: Sequence[Mapping[str, Any]]) -> dict[int, ClosedLoop]:
    """Return the closed loops among what was measured, by their callers."""
    callers = sorted({load["concurrency"] for load in loads if "concurrency" in load})
    found = {}
    for count in callers:
        rounds = [load for load in loads if load.get("concurrency") == count]
        found[count] = ClosedLoop(
            callers=count,
            cpu_seconds={role: median(load["cpu_seconds"][role] for load in rounds) for role in MODULES},
            client_seconds=median(load["client_seconds"] for load in rounds),
            batch=median(load["batch"] for load in rounds),
            p50_seconds=median(load["p50_milliseconds"] for load in rounds) / 1000,
            p99_seconds=median(load["p99_milliseconds"] for load in rounds) / 1000,
        )
    return found


def fitted(loops: Mapping[int, ClosedLoop], results: Mapping[str, Any], cores: int) -> CostModel:
    """Return the model of the preset SMALL, with which the loops were measured.

    CPU times are as measured with one caller and with the most. How much slower a core is while all are busy, and then
    how the time of work varies, is what explains the latencies of the loops best.
    """

    def error(model: CostModel, *names: str) -> float:
        total = 0.0
        for loop in loops.values():
            simulated = machine(model, 1, cores, callers=loop.callers, request_count=max(60 * loop.callers, 2000))
            for name in names:
                predicted = simulated.milliseconds(SHARES[name]) / 1000
                total += math.log(predicted / getattr(loop, f"{name}_seconds")) ** 2
        return total

    steady = [_with_path(_costs(loops, results, busy_speed), loops[1].p50_seconds, cores) for busy_speed in BUSY_SPEEDS]
    best = min(steady, key=lambda model: error(model, "p50"))
    # The latency of one caller is a sum of pieces of work. The fewer vary by themselves, the less each has to vary.
    alone = math.log(loops[1].p99_seconds / loops[1].p50_seconds) / Z_99
    varied = [
        _with_path(
            best.model_copy(update={"jitter": alone * math.sqrt(pieces), "jitter_seconds": seconds}),
            loops[1].p50_seconds,
            cores,
        )
        for pieces, seconds in JITTERS
    ]
    return min(varied, key=lambda model: error(model, "p50", "p99"))


def _costs(loops: Mapping[int, ClosedLoop], results: Mapping[str, Any], busy_speed: float) -> CostModel:
    alone, saturated = loops[1], loops[max(loops)]
    wake_seconds = max(alone.client_seconds - saturated.client_seconds * busy_speed, 0.0)
    costs = {}
    for role in MODULES:
        # alone = wakes + call + query; saturated = (wakes + call) / batch + query.
        one, each = alone.cpu_seconds[role], saturated.cpu_seconds[role] * busy_speed
        per_query = max((each - one / saturated.batch) / (1 - 1 / saturated.batch), each / 10)
        base, per_item = _memory(results, MODULES[role])
        costs[role] = ServiceCost(
            seconds_per_call=max(one - per_query - WAKES[role] * wake_seconds, 0.0),
            seconds_per_query=per_query,
            base_bytes=base,
            bytes_per_item=per_item,
        )
    growth = [*results["growth"], *json.loads(GROWTH_BY_HAND.read_text())]
    return CostModel(
        measured="python -m benchmarks.capacity",
        item_count=SMALL.item_count,
        **costs,
        search=tuple(
            SearchCost(item_count=point["item_count"], seconds=point["approximate_milliseconds"] / 1000)
            for point in growth
        ),
        vector_bytes_per_item=_vector_bytes(results),
        network=_network(results),
        path_share=1.0,
        hop_seconds=0.0,
        jitter=0.0,
        jitter_seconds=0.0,
        wake_seconds=wake_seconds,
        busy_speed=busy_speed,
        client_seconds=saturated.client_seconds * busy_speed,
    )


def _with_path(model: CostModel, p50_seconds: float, cores: int) -> CostModel:
    """Return the model with the share of work, or the time of messages, that explains the latency of one caller."""

    def alone(path_share: float) -> float:
        varied = model.model_copy(update={"path_share": path_share, "hop_seconds": 0.0})
        count = 200 if model.jitter else 30
        return machine(varied, 1, cores, callers=1, request_count=count).milliseconds(0.5) / 1000

    if (missing := p50_seconds - alone(1.0)) > 0:
        return model.model_copy(update={"path_share": 1.0, "hop_seconds": missing / 6})
    low, high = 0.05, 1.0
    for _ in range(6):
        share = (low + high) / 2
        if alone(share) < p50_seconds:
            low = share
        else:
            high = share
    return model.model_copy(update={"path_share": (low + high) / 2, "hop_seconds": 0.0})


def machine(model: CostModel, replicas: int, cores: int, **load: float) -> Simulated:
    """Simulate a load on a machine whose cores all processes and the client share."""
    return simulate(
        Scenario.of(
            model,
            candidate_replicas=replicas,
            ranking_replicas=replicas,
            cores=cores,
            client_seconds=model.client_seconds,
            busy_speed=model.busy_speed,
            **load,
        )
    )


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
        role: getattr(small, role).seconds_per_query - computed("small", *names.get(role, ())) for role in MODULES
    }
    messages = {role: max(seconds, 2e-5) for role, seconds in messages.items()}
    calls = sum(getattr(small, role).seconds_per_call + WAKES[role] * small.wake_seconds for role in MODULES)
    total = presets["paper"]["serving"]["saturated"]["winnow"]["cpu_microseconds_per_request"] / 1e6 * small.busy_speed
    batch = SATURATING_CALLERS / 2
    factor = (total - sum(messages.values()) - calls / batch) / sum(computed("paper", *names[role]) for role in names)
    costs = {
        role: getattr(small, role).model_copy(
            update={"seconds_per_query": messages[role] + factor * computed("paper", *names.get(role, ()))}
        )
        for role in MODULES
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


def _vector_bytes(results: Mapping[str, Any]) -> float:
    index = results["presets"]["paper"]["release"]["file_mebibytes"]["index.faiss"] * MEBIBYTE / PAPER.item_count
    return float(PAPER.embedding_dim * BYTES_PER_NUMBER + index)


def _network(results: Mapping[str, Any]) -> NetworkCost:
    """Ids at the edge are text; between the services everything is packed: rows, scores, offsets of four bytes."""
    shape = results["presets"]["small"]["shape"]
    history = (shape["history_length"] + 1) * BYTES_PER_NUMBER
    candidates = shape["candidate_count"] * BYTES_PER_NUMBER
    id_bytes = 12
    return NetworkCost(
        request=shape["history_length"] * (id_bytes + 12),
        answer=SMALL.answer_length * (id_bytes + 40) + 200,
        # Watched items are excluded: their rows are sent twice.
        retrieve_request=2 * history + BYTES_PER_NUMBER,
        retrieve_answer=2 * candidates,
        rank_request=history + candidates,
        rank_answer=candidates,
    )
