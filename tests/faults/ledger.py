"""Every call of a fault test, recorded by the client and checked against the invariant.

Every call ends by its deadline + 100 ms with exactly one allowed status, and every OK answer is valid (right length,
sorted, no duplicates, no excluded item, none that does not match the filter or is over a cap, finite scores, one
release) or flagged degraded. An answer that is not degraded equals, item for item, the answer of the release that it
names.
"""

import asyncio
import contextlib
import itertools
import math
import random
import time
from collections import Counter, deque
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

import grpc

from tests.reference import DirectRecommender
from tests.releases import FIRST_YEAR, YEARS
from winnow.v1 import recommendation_pb2, recommendation_pb2_grpc

COUNT = 10
CANDIDATES = 200
GRACE_SECONDS = 0.1
# If the event loop wakes up later than this, the machine kept it from running, not its own work.
LAG_SECONDS = 0.005
Stub: TypeAlias = "recommendation_pb2_grpc.RecommendationServiceAsyncStub"
Ask: TypeAlias = "Callable[[Stub, Query, float], Any]"
"""Makes a call with a deadline."""
Response: TypeAlias = Any
"""Of RecommendItems, unless the load asks for something else."""
ALLOWED = {
    grpc.StatusCode.OK,
    grpc.StatusCode.UNAVAILABLE,
    grpc.StatusCode.RESOURCE_EXHAUSTED,
    grpc.StatusCode.DEADLINE_EXCEEDED,
}


@dataclass(frozen=True, kw_only=True)
class Query:
    history: tuple[str, ...]
    excluded: tuple[str, ...]
    years: int | None
    """Only items of so many years are asked for."""
    one_a_year: bool
    """No two items of the answer are of the same year."""

    @property
    def filter(self) -> str:
        return "" if self.years is None else f"year < {FIRST_YEAR + self.years}"

    def matches(self, row: int) -> bool:
        return self.years is None or row % YEARS < self.years

    def keeps_cap(self, rows: Sequence[int]) -> bool:
        return not self.one_a_year or len({row % YEARS for row in rows}) == len(rows)


@dataclass(frozen=True, kw_only=True)
class Call:
    """A request and its outcome."""

    query: Query
    seconds: float
    timeout_seconds: float
    lag_seconds: float
    """How late the client's own event loop was during the call; the server is not to blame for it."""
    code: grpc.StatusCode
    cancelled_by_us: bool
    response: Response | None
    finished_at: float


class Judge:
    """Knows the right answers of each release."""

    def __init__(
        self,
        releases: Path,
        release_ids: Sequence[str],
        item_ids: Sequence[str],
        seed: int = 0,
        further: Sequence[str] = (),
    ) -> None:
        """`further` is what an external source proposes: answers are right with and without it."""
        rng = random.Random(seed)
        self.queries = [
            Query(
                history=tuple(rng.choices(item_ids, k=rng.randint(1, 40))),
                excluded=tuple(rng.sample(item_ids, 5)),
                years=rng.randint(8, YEARS) if number % 3 == 0 else None,
                one_a_year=number % 3 == 1,
            )
            for number in range(24)
        ]
        self._rows = {item_id: row for row, item_id in enumerate(item_ids)}
        self._expected: dict[tuple[str, Query], list[list[str]]] = {}
        for release_id in release_ids:
            direct = DirectRecommender(releases, release_id)
            for query in self.queries:
                self._expected[release_id, query] = [
                    self._answer(direct, query, proposed) for proposed in ([(), further] if further else [()])
                ]

    def _answer(self, direct: DirectRecommender, query: Query, further: Sequence[str]) -> list[str]:
        ranked = direct.recommend(
            list(query.history), CANDIDATES, excluded=list(query.excluded), matches=query.matches, further=further
        )
        answer: list[str] = []
        for item_id, _ in ranked:
            if query.keeps_cap([self._rows[chosen] for chosen in (*answer, item_id)]):
                answer.append(item_id)
        return answer[:COUNT]

    def violations(self, call: Call) -> list[str]:
        """Return what breaks the invariant."""
        found = []
        if call.seconds > call.timeout_seconds + GRACE_SECONDS + call.lag_seconds:
            found.append(f"took {call.seconds:.3f} s with a deadline of {call.timeout_seconds} s")
        if call.response is None:
            if call.code not in ALLOWED and not (call.cancelled_by_us and call.code is grpc.StatusCode.CANCELLED):
                found.append(f"status {call.code.name}")
            return found
        return found + self.answer_violations(call.query, call.response)

    def answer_violations(self, query: Query, response: Response) -> list[str]:
        """Return what is wrong with an answer."""
        found = []
        item_ids = [item.item_id for item in response.items]
        scores = [item.score for item in response.items]
        if len(item_ids) != COUNT:
            found.append(f"{len(item_ids)} items")
        if len(set(item_ids)) != len(item_ids):
            found.append("an item appears twice")
        if {*query.history, *query.excluded} & set(item_ids):
            found.append("an excluded item")
        if not all(query.matches(self._rows[item_id]) for item_id in item_ids):
            found.append("an item that does not match the filter")
        if not query.keeps_cap([self._rows[item_id] for item_id in item_ids]):
            found.append("more items of a value than its cap")
        if not all(map(math.isfinite, scores)):
            found.append("a score that is not finite")
        if scores != sorted(scores, reverse=True):
            found.append("not sorted")
        expected = self._expected.get((response.release_id, query))
        if expected is None:
            found.append(f"unknown release {response.release_id!r}")
        elif not _flagged(response) and item_ids not in expected:
            found.append("not what the release gives, and not flagged")
        return found


def degraded(response: Response) -> bool:
    """Whether the full chain has not answered. Other calls than recommendations fail then."""
    return (
        isinstance(response, recommendation_pb2.RecommendItemsResponse)
        and response.degradation.step != recommendation_pb2.DEGRADATION_STEP_NONE
    )


def _flagged(response: Response) -> bool:
    """Whether the answer says that it is less than the full chain gives: degraded, or fewer candidates ranked."""
    return degraded(response) or response.ranked_count < response.retrieved_count


@dataclass
class Ledger:
    """All calls of one fault."""

    fault: str
    calls: list[Call] = field(default_factory=list)
    violations: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    not_run: str = ""
    """Why the test could not run here; empty if it ran."""

    def add(self, call: Call, judge: Judge) -> None:
        self.calls.append(call)
        self.violations += judge.violations(call)

    def since(self, started_at: float) -> "Ledger":
        """The calls that were made from then on, by the monotonic clock."""
        return Ledger(self.fault, [call for call in self.calls if call.finished_at - call.seconds >= started_at])

    def all_full_of_late(self, seconds: float = 0.5) -> bool:
        """Whether all answers of the last seconds were full."""
        calls = list(self.calls)
        since = calls[-1].finished_at - seconds if calls else 0.0
        late = itertools.takewhile(lambda call: call.finished_at > since, reversed(calls))
        return all(call.response is not None and not degraded(call.response) for call in late)

    @property
    def codes(self) -> Counter[str]:
        return Counter(call.code.name for call in self.calls)

    @property
    def degraded_count(self) -> int:
        return sum(1 for call in self.calls if call.response is not None and degraded(call.response))

    @property
    def full_count(self) -> int:
        """Number of answers of the full chain."""
        return self.codes["OK"] - self.degraded_count

    @property
    def reasons(self) -> Counter[str]:
        """Number of degraded answers by reason."""
        return Counter(
            call.response.degradation.reason
            for call in self.calls
            if call.response is not None and degraded(call.response)
        )

    def seconds(self, percentile: float) -> float:
        ordered = sorted(call.seconds for call in self.calls)
        return ordered[min(len(ordered) - 1, int(percentile / 100 * len(ordered)))] if ordered else 0.0


def recommendation_of(query: Query) -> recommendation_pb2.RecommendItemsRequest:
    """The request for recommendations."""
    return recommendation_pb2.RecommendItemsRequest(
        history=[recommendation_pb2.Watch(item_id=item_id) for item_id in query.history],
        excluded_item_ids=query.excluded,
        filter=query.filter,
        caps=[recommendation_pb2.AttributeCap(attribute="year", max_count=1)] if query.one_a_year else (),
        item_count=COUNT,
    )


def recommend(stub: Stub, query: Query, timeout_seconds: float) -> Any:
    """Ask for recommendations."""
    return stub.RecommendItems(recommendation_of(query), timeout=timeout_seconds)


class Load:
    """Calls to a gateway: at a rate, whether earlier ones have ended or not, or by callers who wait for each answer."""

    def __init__(
        self,
        target: str,
        judge: Judge,
        ledger: Ledger,
        *,
        rate: float = 0.0,
        timeout_seconds: float = 2.0,
        cancel_share: float = 0.0,
        connections: int = 1,
        seed: int = 0,
        ask: Ask = recommend,
    ) -> None:
        self._target = target
        self._ask = ask
        self._judge = judge
        self.ledger = ledger
        self._rate = rate
        self._timeout_seconds = timeout_seconds
        self._cancel_share = cancel_share
        self._connections = connections
        self._random = random.Random(seed)
        self._lags: deque[tuple[float, float]] = deque(maxlen=1000)
        """Moments at which the client's event loop was late, and by how much; a thousand cover more than a deadline."""
        self._on_time_until = math.inf
        """The event loop is late if it is later than this and it has not noticed."""

    async def run(self, seconds: float, go_on: Callable[[], bool] = lambda: False) -> None:
        """Call for `seconds` and for as long as `go_on` returns true, then wait for the calls in flight."""
        async with self._stubs() as stubs:
            calls: set[asyncio.Task[None]] = set()
            end = time.monotonic() + seconds
            due = time.monotonic()
            while due < end or go_on():
                await asyncio.sleep(max(0.0, due - time.monotonic()))
                call = asyncio.create_task(self._call(next(stubs)))
                calls.add(call)
                call.add_done_callback(calls.discard)
                due += self._random.expovariate(self._rate)
            if calls:
                await asyncio.wait(calls)

    async def run_callers(self, caller_count: int, seconds: float) -> None:
        """Let so many callers call for so long, each as soon as it has an answer."""
        end = time.monotonic() + seconds

        async def call_on(stub: "recommendation_pb2_grpc.RecommendationServiceAsyncStub") -> None:
            while time.monotonic() < end:
                await self._call(stub)

        async with self._stubs() as stubs:
            await asyncio.gather(*(call_on(next(stubs)) for _ in range(caller_count)))

    async def burst(self, count: int) -> None:
        """Make so many calls at once."""
        async with self._stubs() as stubs:
            await asyncio.gather(*(self._call(next(stubs)) for _ in range(count)))

    @contextlib.asynccontextmanager
    async def _stubs(self) -> "AsyncIterator[Iterator[recommendation_pb2_grpc.RecommendationServiceAsyncStub]]":
        """Stubs with a connection each, in turn, for ever."""
        options = [("grpc.use_local_subchannel_pool", 1), ("grpc.max_reconnect_backoff_ms", 500)]
        async with contextlib.AsyncExitStack() as stack:
            channels = [grpc.aio.insecure_channel(self._target, options=options) for _ in range(self._connections)]
            for channel in channels:
                await stack.enter_async_context(channel)
            watch = asyncio.create_task(self._watch_lag())
            yield itertools.cycle([recommendation_pb2_grpc.RecommendationServiceStub(channel) for channel in channels])
            watch.cancel()

    async def _call(self, stub: "recommendation_pb2_grpc.RecommendationServiceAsyncStub") -> None:
        query = self._random.choice(self._judge.queries)
        cancel = self._random.random() < self._cancel_share
        started = time.monotonic()
        call = self._ask(stub, query, self._timeout_seconds)
        if cancel:
            asyncio.get_running_loop().call_later(self._random.random() * 0.02, call.cancel)
        response: Response | None = None
        code = grpc.StatusCode.OK
        try:
            response = await call
        except grpc.aio.AioRpcError as error:
            code = error.code()
        except asyncio.CancelledError:
            code = grpc.StatusCode.CANCELLED
        finished_at = time.monotonic()
        self.ledger.add(
            Call(
                query=query,
                seconds=finished_at - started,
                timeout_seconds=self._timeout_seconds,
                lag_seconds=sum(lag for at, lag in self._lags if at >= started)
                + max(0.0, finished_at - self._on_time_until),
                code=code,
                cancelled_by_us=cancel,
                response=response,
                finished_at=finished_at,
            ),
            self._judge,
        )

    async def _watch_lag(self) -> None:
        while True:
            asked = self._on_time_until = time.monotonic() + 0.02
            await asyncio.sleep(0.02)
            now = time.monotonic()
            if now - asked > LAG_SECONDS:
                self._lags.append((now, now - asked))
