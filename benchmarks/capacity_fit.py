"""From what was measured to the cost model of `winnow plan`: see benchmarks.capacity."""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.presets import PAPER, SMALL
from winnow.capacity.cost_model import CostModel, NetworkCost, SearchCost, ServiceCost
from winnow.capacity.simulation import Scenario, simulate

MODULES = {"gateway": "gateway", "candidate": "candidate_service", "ranking": "ranking_service"}
"""By the role of a service in the cost model."""
SATURATING_CALLERS = 64
MEBIBYTE = 2**20
# Prices of the tables of a network: float32.
BYTES_PER_NUMBER = 4
# Of the machine of results.json, where it was not measured: chosen on the loads at 20 and 55 % there, so that only the
# other three check the simulation.
IDLE_BUSY_SPEED = 0.6
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
        return {role: total * seconds[role] / sum(seconds.values()) for role in MODULES}

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


def fitted(found: Calibration, results: Mapping[str, Any], measured: str, cores: int) -> CostModel:
    """Return the model of the preset SMALL, with which the calibration was made."""
    costs = {}
    for role in MODULES:
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
    growth = [*results["growth"], *json.loads(GROWTH_BY_HAND.read_text())]
    model = CostModel(
        measured=measured,
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


def idle_model(measured: Calibration, results: Mapping[str, Any]) -> CostModel:
    """Return the model of the preset SMALL from results.json."""
    found = idle_calibration(measured, results["presets"]["small"]["serving"])
    return fitted(found, results, "results.json", results["machine"]["cores"])


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
    calls = sum(getattr(small, role).seconds_per_call for role in MODULES)
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
