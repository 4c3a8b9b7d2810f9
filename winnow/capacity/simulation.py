"""A discrete-event simulation of a gateway and replicas of both stages.

Requests go through the batcher that the services use, winnow.batching.MicroBatcher, on a clock that jumps. What is
simulated is the work: a process is one queue, a machine has so many cores, a message takes a while.
"""

import asyncio
import math
import random
from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager, nullcontext
from dataclasses import dataclass

from winnow.batching import BatchingLimits, MicroBatcher, NoMetrics
from winnow.capacity.cost_model import CostModel, ServiceCost
from winnow.capacity.simulated_loop import SimulatedLoop
from winnow.rpc.errors import DeadlineError, OverloadedError

# The defaults of the services' settings; a test compares them.
GATEWAY_LIMITS = BatchingLimits(max_batch_weight=64, max_batches_in_flight=8, max_queued_weight=1024)
STAGE_LIMITS = BatchingLimits(max_batch_weight=256, max_batches_in_flight=1, max_queued_weight=2048)
# How long a process keeps a core that others wait for: about the scheduler's.
SLICE_SECONDS = 0.001
WARM_UP_SHARE = 0.1


@dataclass(frozen=True, kw_only=True)
class Scenario:
    """What is simulated: one gateway, its share of the stages, and its load."""

    gateway: ServiceCost
    candidate: ServiceCost
    ranking: ServiceCost
    candidate_replicas: int
    ranking_replicas: int
    path_share: float
    hop_seconds: float
    jitter: float
    jitter_seconds: float
    wake_seconds: float
    rate_per_second: float = 0.0
    """Poisson arrivals; 0 for a closed loop."""
    callers: int = 0
    """Of a closed loop."""
    request_count: int = 2000
    timeout_seconds: float = 30.0
    cores: int | None = None
    """Shared by all processes and the client; None for a core for each process."""
    busy_speed: float = 1.0
    """Speed of a core while all are busy, where they are threads of one core: they share its units and caches."""
    client_seconds: float = 0.0
    seed: int = 0

    @classmethod
    def of(cls, model: CostModel, **fields: object) -> "Scenario":
        """Return a scenario with a model's costs."""
        shared = (
            "gateway",
            "candidate",
            "ranking",
            "path_share",
            "hop_seconds",
            "jitter",
            "jitter_seconds",
            "wake_seconds",
        )
        return cls(**{name: getattr(model, name) for name in shared} | fields)


@dataclass(frozen=True, kw_only=True)
class Simulated:
    """What came of it."""

    latencies: Sequence[float]
    """Of answered requests, in seconds, ascending."""
    failed_count: int
    rate_per_second: float
    """Answers."""
    mean_batch: float
    """Requests in a gateway's batch."""
    utilisation: dict[str, float]
    """Busy share of a process, on average over a service's replicas."""

    def milliseconds(self, share: float) -> float:
        """Return a quantile of the latency; infinite where no request was answered."""
        if not self.latencies:
            return math.inf
        return 1000 * self.latencies[min(len(self.latencies) - 1, int(share * len(self.latencies)))]


class _Process:
    """Does one piece of work at a time."""

    def __init__(self, scenario: Scenario, cores: asyncio.Semaphore | None, random_numbers: random.Random) -> None:
        self._scenario = scenario
        self._cores = cores
        self._random = random_numbers
        self._turn = asyncio.Lock()
        self._rest: set[asyncio.Task[None]] = set()
        self._idle_since = -math.inf
        self._slowness = 1.0
        self._slow_until = -math.inf
        self.busy_seconds = 0.0

    async def work(self, seconds: float) -> None:
        """Return when the caller's part is done; the process does the rest in its own time."""
        if not seconds:
            return
        now, scenario = asyncio.get_running_loop().time(), self._scenario
        # What arrives while the process works, or just when it has ended, is found without waking it again.
        if not self._turn.locked() and now > self._idle_since:
            seconds += scenario.wake_seconds
        if scenario.jitter and now >= self._slow_until:
            self._slowness = self._random.lognormvariate(0.0, scenario.jitter)
            self._slow_until = now + scenario.jitter_seconds
        seconds *= self._slowness
        await self._occupy(seconds * scenario.path_share)
        if scenario.path_share < 1:
            task = asyncio.create_task(self._occupy(seconds * (1 - scenario.path_share)))
            self._rest.add(task)
            task.add_done_callback(self._rest.discard)

    async def _occupy(self, seconds: float) -> None:
        self.busy_seconds += seconds
        async with self._turn:
            while seconds > 0:
                step = seconds if self._cores is None else min(seconds, SLICE_SECONDS)
                core: AbstractAsyncContextManager[None] = nullcontext() if self._cores is None else self._cores
                async with core:
                    crowded = self._cores is not None and self._cores.locked()
                    await asyncio.sleep(step / self._scenario.busy_speed if crowded else step)
                seconds -= step
        self._idle_since = asyncio.get_running_loop().time()


class _Replica:
    """A replica of a stage: a process behind the batcher of its device."""

    def __init__(self, cost: ServiceCost, process: _Process) -> None:
        self._cost = cost
        self.process = process
        self.calls_in_flight = 0
        self._batcher = MicroBatcher[int, None](self._compute, STAGE_LIMITS, NoMetrics())

    async def call(self, query_count: int, deadline: float) -> None:
        self.calls_in_flight += 1
        try:
            await self._batcher.submit(query_count, deadline=deadline, weight=query_count)
        finally:
            self.calls_in_flight -= 1

    async def _compute(self, batch: Sequence[int], _deadline: float) -> Sequence[None]:
        # Each call is a message of its own, whatever is computed together.
        await self.process.work(len(batch) * self._cost.seconds_per_call + sum(batch) * self._cost.seconds_per_query)
        return [None] * len(batch)


class _Cell:
    """A gateway with its stages."""

    def __init__(self, scenario: Scenario) -> None:
        self.scenario = scenario
        self.random = random.Random(scenario.seed)  # noqa: S311 - a simulation
        cores = None if scenario.cores is None else asyncio.Semaphore(scenario.cores)

        def process() -> _Process:
            return _Process(scenario, cores, self.random)

        self.client = process()
        self.gateway = process()
        self.candidate = [_Replica(scenario.candidate, process()) for _ in range(scenario.candidate_replicas)]
        self.ranking = [_Replica(scenario.ranking, process()) for _ in range(scenario.ranking_replicas)]
        self.batcher = MicroBatcher[int, None](self._recommend, GATEWAY_LIMITS, NoMetrics())
        self.batches: list[int] = []
        self.latencies: list[float] = []
        self.failed_count = 0

    async def request(self, due: float, *, counted: bool) -> None:
        """Send one request, and note how long its answer took."""
        loop = asyncio.get_running_loop()
        scenario = self.scenario
        await self.client.work(scenario.client_seconds / 2)
        await asyncio.sleep(scenario.hop_seconds)
        try:
            await self.gateway.work(scenario.gateway.seconds_per_query / 2)
            await self.batcher.submit(0, deadline=due + scenario.timeout_seconds)
            await self.gateway.work(scenario.gateway.seconds_per_query / 2)
        except (DeadlineError, OverloadedError):
            self.failed_count += counted
            return
        await asyncio.sleep(scenario.hop_seconds)
        await self.client.work(scenario.client_seconds / 2)
        if counted:
            self.latencies.append(loop.time() - due)

    async def _recommend(self, batch: Sequence[int], deadline: float) -> Sequence[None]:
        self.batches.append(len(batch))
        for replicas in (self.candidate, self.ranking):
            await self.gateway.work(self.scenario.gateway.seconds_per_call / 2)
            await asyncio.sleep(self.scenario.hop_seconds)
            await min(replicas, key=lambda replica: replica.calls_in_flight).call(len(batch), deadline)
            await asyncio.sleep(self.scenario.hop_seconds)
        return [None] * len(batch)


def simulate(scenario: Scenario) -> Simulated:
    """Run a scenario. Raises ValueError where it has neither a rate nor callers, or both."""
    if (scenario.rate_per_second > 0) == (scenario.callers > 0):
        raise ValueError("a scenario has either a rate or callers")
    with asyncio.Runner(loop_factory=SimulatedLoop) as runner:
        return runner.run(_run(scenario))


async def _run(scenario: Scenario) -> Simulated:
    loop = asyncio.get_running_loop()
    cell = _Cell(scenario)
    warm_up = int(WARM_UP_SHARE * scenario.request_count)
    if scenario.callers:
        numbers = iter(range(scenario.request_count))

        async def caller() -> None:
            for number in numbers:
                await cell.request(loop.time(), counted=number >= warm_up)

        await asyncio.gather(*(caller() for _ in range(scenario.callers)))
    else:
        async with asyncio.TaskGroup() as requests:
            due = loop.time()
            for number in range(scenario.request_count):
                due += cell.random.expovariate(scenario.rate_per_second)
                await asyncio.sleep(due - loop.time())
                requests.create_task(cell.request(due, counted=number >= warm_up))
    seconds = max(loop.time(), 1e-9)
    services = {
        "gateway": [cell.gateway],
        "candidate": [replica.process for replica in cell.candidate],
        "ranking": [replica.process for replica in cell.ranking],
    }
    return Simulated(
        latencies=sorted(cell.latencies),
        failed_count=cell.failed_count,
        rate_per_second=scenario.request_count / seconds,
        mean_batch=sum(cell.batches) / max(len(cell.batches), 1),
        utilisation={
            name: sum(process.busy_seconds for process in processes) / len(processes) / seconds
            for name, processes in services.items()
        },
    )
