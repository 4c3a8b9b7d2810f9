"""From a load to replicas: the smallest number that keeps the simulated tail latency below what is asked for."""

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

from winnow.capacity.cost_model import CostModel, ServiceCost
from winnow.capacity.simulation import Scenario, Simulated, simulate

# The busiest service's share of its core, tried from above: docs/performance.md advises .7 at most.
UTILISATIONS = (0.7, 0.6, 0.5, 0.4, 0.3, 0.2, 0.1)
# Requests in a batch, as a first guess; the simulation finds the right number.
GUESSED_BATCH = 4.0
# More shards do not help where a search takes this part of the tail latency.
NEGLIGIBLE_SEARCH_SHARE = 0.01
MAX_SHARDS = 100_000
# Replicas of a stage beyond which one gateway's share is simulated with larger, fewer ones: it would take minutes.
MAX_SIMULATED_REPLICAS = 200
GIBIBYTE = 2**30


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """What a plan is for."""

    item_count: float
    requests_per_second: float
    p99_seconds: float
    replica_gibibytes: float = 64.0
    """Most memory that a replica may have."""
    zones: int = 3
    """Replicas are spread over them, and one may fail; 1 for no such reserve."""
    hop_seconds: float = 0.00025
    """A message between two machines."""

    def __post_init__(self) -> None:
        for name in ("item_count", "requests_per_second", "p99_seconds", "replica_gibibytes"):
            if not (math.isfinite(getattr(self, name)) and getattr(self, name) > 0):
                raise ValueError(f"{name} is {getattr(self, name)}: it has to be a positive number")
        if self.item_count > 1e12 or self.requests_per_second > 1e9:
            raise ValueError("more than 1e12 items or 1e9 requests a second are not planned")
        if not 1 <= self.zones <= 100:
            raise ValueError(f"zones is {self.zones}: 1 to 100 are planned")
        if not 0 <= self.hop_seconds <= 1:
            raise ValueError(f"hop_seconds is {self.hop_seconds}: it has to be from 0 to 1")


@dataclass(frozen=True, kw_only=True)
class Service:
    """One service in a plan."""

    name: str
    replicas: int
    """With the reserve for a zone."""
    needed: int
    """Without it."""
    utilisation: float
    """Of a replica's core at the planned rate, with all replicas."""
    utilisation_without_zone: float
    memory_gibibytes: float
    """Of a replica, two releases included."""
    most_items: float
    """How large a catalogue a replica within the limit can have."""
    fits: bool
    """Whether that is within the limit."""
    received_mebibytes_per_second: float
    """By all replicas together."""
    sent_mebibytes_per_second: float


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What `winnow plan` prints."""

    wanted: Wanted
    services: tuple[Service, ...]
    shard_count: int
    """Shards of the index; 1 means that each candidate replica holds it whole."""
    search_seconds: float
    """CPU time of one query in one shard."""
    utilisation: float
    p50_seconds: float
    p99_seconds: float
    """Simulated, without a zone."""
    mean_batch: float

    @property
    def replica_count(self) -> int:
        """Of all services."""
        return sum(service.replicas for service in self.services)

    @property
    def keeps_latency(self) -> bool:
        """Whether the tail latency is within what is asked for."""
        return self.p99_seconds <= self.wanted.p99_seconds

    def limits(self) -> Iterator[str]:
        """Say what saturates first, then what does not fit."""
        busiest = max(self.services, key=lambda service: service.utilisation)
        yield f"{busiest.name} saturates first: {busiest.utilisation:.0%} of its cores at this rate"
        for service in self.services:
            if not service.fits:
                most = self.wanted.replica_gibibytes
                yield (
                    f"{service.name} does not fit: each replica needs {service.memory_gibibytes:,.1f} GiB, "
                    f"of {most:,.1f}: at most {service.most_items:.2g} items do"
                )
        if not self.keeps_latency:
            yield f"no number of replicas keeps the 99th percentile: {1000 * self.p99_seconds:,.0f} ms at best"


def make_plan(model: CostModel, wanted: Wanted, request_count: int = 2000) -> Plan:
    """Return the plan with the fewest replicas whose simulated 99th percentile is low enough, or the quickest one.

    `request_count` are simulated each time.
    """
    shard_count = _shards_by_memory(model, wanted)
    found: Plan | None = None
    while True:
        planner = _Planner(model, wanted, shard_count, request_count)
        calmest = planner.plan(UTILISATIONS[-1], GUESSED_BATCH)
        plan = planner.fewest(calmest) if calmest.keeps_latency else calmest
        if found is not None and found.keeps_latency and plan.replica_count >= found.replica_count:
            return found
        found = plan
        # Shards are an engine's: none where the service itself is quick enough, and no more than help.
        quick = plan.search_seconds < NEGLIGIBLE_SEARCH_SHARE * wanted.p99_seconds
        if quick or shard_count >= MAX_SHARDS or (plan.keeps_latency and shard_count == 1):
            return plan
        shard_count *= 2


def _shards_by_memory(model: CostModel, wanted: Wanted) -> int:
    """As few as fit: one is the index in the candidate service itself, more are an engine's."""
    most_bytes = wanted.replica_gibibytes * GIBIBYTE
    if model.candidate.memory_bytes(wanted.item_count) <= most_bytes:
        return 1
    room = max(most_bytes - model.candidate.base_bytes, 1.0)
    return min(math.ceil(2 * wanted.item_count * model.vector_bytes_per_item / room), MAX_SHARDS)


class _Planner:
    """Plans with a number of shards."""

    def __init__(self, model: CostModel, wanted: Wanted, shard_count: int, request_count: int) -> None:
        self._model = model
        self._wanted = wanted
        self._shard_count = shard_count
        self._request_count = request_count
        self._costs = _costs(model, wanted, shard_count)

    def plan(self, utilisation: float, batch: float) -> Plan:
        """Simulate replicas that would be as busy as that if batches had that many requests."""
        cell = _cell(self._model, self._wanted, self._costs, utilisation, batch)
        simulated = simulate(replace(cell, request_count=self._request_count))
        return _plan(self._model, self._wanted, self._costs, cell, simulated, self._shard_count, utilisation)

    def fewest(self, calmest: Plan) -> Plan:
        """Return the plan with the busiest replicas that keeps the latency."""
        found = calmest
        for utilisation in UTILISATIONS[:-1]:
            plan = self.plan(utilisation, GUESSED_BATCH)
            if plan.keeps_latency:
                found = plan
                break
        # Larger batches cost less a request: as large as they turned out to be.
        larger = self.plan(found.utilisation, found.mean_batch)
        return larger if larger.keeps_latency and larger.replica_count < found.replica_count else found


def _costs(model: CostModel, wanted: Wanted, shard_count: int) -> dict[str, ServiceCost]:
    """Costs at this catalogue, on processors all of whose threads are busy."""

    def busy(cost: ServiceCost, more_seconds: float = 0.0) -> ServiceCost:
        return cost.model_copy(
            update={
                "seconds_per_call": cost.seconds_per_call / model.busy_speed,
                "seconds_per_query": max(cost.seconds_per_query + more_seconds, 1e-6) / model.busy_speed,
            }
        )

    search = model.search_seconds(wanted.item_count / shard_count) - model.search_seconds(model.item_count)
    return {
        "gateway": busy(model.gateway),
        "candidate": busy(model.candidate, search),
        "ranking": busy(model.ranking),
    }


def _cell(
    model: CostModel, wanted: Wanted, costs: dict[str, ServiceCost], utilisation: float, batch: float
) -> Scenario:
    """One gateway as busy as allowed, and its share of the stages. All shards of a query work at once."""
    seconds = {name: cost.seconds(batch) / batch for name, cost in costs.items()}
    rate = utilisation / seconds["gateway"]
    replicas = {name: max(1, math.ceil(rate * seconds[name] / utilisation)) for name in ("candidate", "ranking")}
    largest = max(replicas.values())
    if largest > MAX_SIMULATED_REPLICAS:
        rate *= MAX_SIMULATED_REPLICAS / largest
        replicas = {name: max(1, math.ceil(rate * seconds[name] / utilisation)) for name in replicas}
    return Scenario.of(
        model,
        **costs,
        candidate_replicas=replicas["candidate"],
        ranking_replicas=replicas["ranking"],
        rate_per_second=rate,
        hop_seconds=model.hop_seconds + wanted.hop_seconds,
        wake_seconds=model.wake_seconds / model.busy_speed,
        timeout_seconds=10.0,
    )


def _plan(
    model: CostModel,
    wanted: Wanted,
    costs: dict[str, ServiceCost],
    cell: Scenario,
    simulated: Simulated,
    shard_count: int,
    utilisation: float,
) -> Plan:
    cells = wanted.requests_per_second / cell.rate_per_second
    per_cell = {"gateway": 1, "candidate": cell.candidate_replicas * shard_count, "ranking": cell.ranking_replicas}
    reserve = wanted.zones / (wanted.zones - 1) if wanted.zones > 1 else 1.0
    services = []
    for name, (received, sent) in _traffic(model, shard_count).items():
        cost = costs[name]
        if name == "candidate" and shard_count > 1:
            # A shard holds vectors; the network's own tables are counted with the services that use them.
            cost = cost.model_copy(update={"bytes_per_item": model.vector_bytes_per_item / shard_count})
        needed = max(1, math.ceil(cells * per_cell[name]))
        if name == "candidate":
            needed = math.ceil(needed / shard_count) * shard_count
        replicas = max(math.ceil(needed * reserve), wanted.zones)
        if name == "candidate":
            replicas = math.ceil(replicas / shard_count) * shard_count
        memory = cost.memory_bytes(wanted.item_count) / GIBIBYTE
        busy = simulated.utilisation[name] * cells * per_cell[name]
        services.append(
            Service(
                name=name,
                replicas=replicas,
                needed=needed,
                utilisation=busy / replicas,
                utilisation_without_zone=busy / needed,
                memory_gibibytes=memory,
                fits=memory <= wanted.replica_gibibytes,
                most_items=cost.most_items(wanted.replica_gibibytes * GIBIBYTE),
                received_mebibytes_per_second=wanted.requests_per_second * received / 2**20,
                sent_mebibytes_per_second=wanted.requests_per_second * sent / 2**20,
            )
        )
    return Plan(
        wanted=wanted,
        services=tuple(services),
        shard_count=shard_count,
        search_seconds=model.search_seconds(wanted.item_count / shard_count),
        utilisation=utilisation,
        p50_seconds=simulated.milliseconds(0.5) / 1000,
        p99_seconds=math.inf if simulated.failed_count else simulated.milliseconds(0.99) / 1000,
        mean_batch=simulated.mean_batch,
    )


def _traffic(model: CostModel, shard_count: int) -> dict[str, tuple[float, float]]:
    """Bytes that each service receives and sends for a request. Every shard is asked, and answers in full."""
    network = model.network
    retrieving = (shard_count * network.retrieve_request, shard_count * network.retrieve_answer)
    return {
        "gateway": (
            network.request + retrieving[1] + network.rank_answer,
            network.answer + retrieving[0] + network.rank_request,
        ),
        "candidate": retrieving,
        "ranking": (network.rank_request, network.rank_answer),
    }
