"""Calls to a stage: a deadline on each, a second try at another replica, failures by name."""

import asyncio
import random
from collections.abc import Callable
from typing import Any, Generic, NamedTuple, TypeVar

import grpc
import structlog

from gateway.replicas import Replica, Replicas
from gateway.second_tries import OverdueTime, RetryBudget
from gateway.settings import GatewaySettings
from winnow.serving.metrics import Metrics
from winnow.serving.tracing import outgoing_metadata

_log = structlog.get_logger(__name__)

Answer = TypeVar("Answer")
Read = Callable[[bytes], Answer]
"""Makes an answer of a response. Raises ValueError where it cannot be used."""

# These say nothing about the replica: it has too much to do, the request is wrong, or its time was short.
BLAMELESS_CODES = (
    grpc.StatusCode.RESOURCE_EXHAUSTED,
    grpc.StatusCode.INVALID_ARGUMENT,
    grpc.StatusCode.DEADLINE_EXCEEDED,
)
# After these even the only known address is asked again: the replica may be back, or there are several behind it.
SAME_ADDRESS_CODES = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.FAILED_PRECONDITION)
# At once it would meet the same restarting replica; this long a pause costs little of a usual deadline.
RETRY_PAUSE_SECONDS = 0.01
# Failures with the same code are logged at most this often.
LOG_SECONDS = 1.0
# So many empty calls meet most of the replicas where a load balancer hides them behind one address.
PROBE_CALLS = 8
PROBE_TIMEOUT_SECONDS = 1.0


class StageFailure(Exception):  # noqa: N818 - the degradation ladder turns it into an answer
    """A stage gave no usable answer; `reason` names the stage and the status, and may be shown to callers."""

    def __init__(self, stage: str, code: grpc.StatusCode) -> None:
        super().__init__(f"{stage}: {code.name}")
        self.reason = f"{stage}: {code.name}"
        self.code = code

    @property
    def release_missing(self) -> bool:
        """Whether the replica that was met does not hold the release."""
        return self.code is grpc.StatusCode.FAILED_PRECONDITION


class Holding(NamedTuple):
    """What the replicas of a stage that work say of a release."""

    held_count: int
    """Answers that it is held."""
    lacking: list[str]
    """Of each answer that it is not, the address."""


class StageCaller:
    """Makes one stage's calls. One a stage for the life of the gateway, shared by all releases: so is the budget.

    There is another one for the releases of experiments, on the same replicas but with a budget of its own.

    A call that fails is made once more, at another replica where there is one. So is a call that is overdue, beside
    the first: the first good answer counts, and the other call is cancelled.
    """

    def __init__(
        self, stage: str, replicas: Replicas, settings: GatewaySettings, metrics: Metrics, *, blames: bool = True
    ) -> None:
        """Unless it `blames` them, no replica is ejected for what its calls come to."""
        self.stage = stage
        self.replicas = replicas
        self.budget = RetryBudget(settings.retry_share)
        self.overdue = OverdueTime()
        self._metrics = metrics
        self.blames = blames
        self._log_again_at: dict[grpc.StatusCode, float] = {}
        self._probes: set[asyncio.Task[None]] = set()

    async def call(self, request: bytes, read: Read[Answer], deadline: float) -> Answer:
        """Return what `read` makes of the response. Raises StageFailure where there is none by then.

        The deadline is event-loop time.
        """
        self.budget.on_call()
        try:
            return await _StageCall(self, request, read, deadline).answer()
        except StageFailure as failure:
            self._metrics.stage_failures.labels(self.stage, failure.code.name).inc()
            raise

    async def holding(self, empty_request: bytes) -> Holding:
        """Ask every replica that works whether it holds the release that the request, which asks nothing, names."""
        asked = [replica for replica in self.replicas if replica.usable]
        calls = [replica for replica in asked for _ in range(max(1, PROBE_CALLS // len(asked)))]
        answers = await asyncio.gather(
            *(replica.ask(empty_request, timeout=PROBE_TIMEOUT_SECONDS) for replica in calls), return_exceptions=True
        )
        held_count, lacking = 0, []
        for replica, answer in zip(calls, answers, strict=True):
            if not isinstance(answer, BaseException):
                held_count += 1
            elif isinstance(answer, grpc.aio.AioRpcError) and answer.code() is grpc.StatusCode.FAILED_PRECONDITION:
                lacking.append(replica.address)
        return Holding(held_count, lacking)

    async def say_in_use(self, empty_request: bytes) -> None:
        """Tell a replica that the release is in use, so that it is not dropped in a quiet hour."""
        replica = self.replicas.pick()
        try:
            if replica is not None:
                await replica.ask(empty_request, timeout=PROBE_TIMEOUT_SECONDS)
        except grpc.aio.AioRpcError as error:
            _log.debug("stage did not answer", stage=self.stage, code=error.code().name)

    def probe(self, request: bytes, read: Read[Any], deadline: float, now: float) -> None:
        """Send a copy of a call to an ejected replica, if it is time to."""
        if (replica := self.replicas.due_probe(now)) is not None:
            task = asyncio.create_task(self._probe(replica, request, read, self.overdue.seconds(deadline - now)))
            self._probes.add(task)
            task.add_done_callback(self._probes.discard)

    async def _probe(self, replica: Replica, request: bytes, read: Read[Any], timeout_seconds: float) -> None:
        good = False
        try:
            read(await replica.ask(request, timeout=timeout_seconds))
            good = True
        except (grpc.aio.AioRpcError, ValueError) as error:
            _log.debug("replica fails still", stage=self.stage, replica=replica.address, reason=str(error))
        finally:
            self.replicas.probed(replica, asyncio.get_running_loop().time(), good=good)

    def failed(self, replica: Replica, reason: str, now: float) -> None:
        """Learn of a failure that is the replica's own."""
        if self.blames:
            self.replicas.failed(replica, reason, now)

    def failure(self, replica: Replica, code: grpc.StatusCode, details: str, now: float) -> StageFailure:
        """Learn and log that a replica gave no usable answer."""
        if code not in BLAMELESS_CODES:
            self.failed(replica, code.name, now)
        if now >= self._log_again_at.get(code, 0.0):
            self._log_again_at[code] = now + LOG_SECONDS
            _log.warning(
                "stage call failed", stage=self.stage, replica=replica.address, code=code.name, details=details
            )
        return StageFailure(self.stage, code)

    def try_again(self, asked: Replica, code: grpc.StatusCode | None) -> Replica | None:
        """Return the replica for a second try, after a failure or beside a call that is overdue; None for no such try.

        It is `asked` itself where there is no other one and the code says that it may do better.
        """
        if code in BLAMELESS_CODES:
            return None
        again = self.replicas.pick_another(asked) or (asked if code in SAME_ADDRESS_CODES else None)
        if again is None or not self.budget.take():
            return None
        self._metrics.stage_retries.labels(self.stage).inc()
        return again


class _StageCall(Generic[Answer]):
    """One call: an attempt, and a second one where the first fails or is overdue."""

    __slots__ = ("_beaten", "_caller", "_deadline", "_first", "_loop", "_read", "_request", "_second")

    def __init__(self, caller: StageCaller, request: bytes, read: Read[Answer], deadline: float) -> None:
        self._caller = caller
        self._request = request
        self._read = read
        self._deadline = deadline
        self._loop = asyncio.get_running_loop()
        self._first: Any = None
        self._second: asyncio.Task[Answer] | None = None
        self._beaten = False
        """Whether the second attempt was faster than the first."""

    async def answer(self) -> Answer:
        caller = self._caller
        now = self._loop.time()
        if now >= self._deadline:
            raise StageFailure(caller.stage, grpc.StatusCode.DEADLINE_EXCEEDED)
        if now >= caller.replicas.next_probe_at and caller.blames:
            caller.probe(self._request, self._read, self._deadline, now)
        replica = caller.replicas.pick()
        if replica is None:
            raise StageFailure(caller.stage, grpc.StatusCode.UNAVAILABLE)
        overdue = self._loop.call_later(caller.overdue.seconds(self._deadline - now), self._try_beside, replica)
        try:
            return await self._attempt(replica)
        except StageFailure as failure:
            if self._second is not None:
                return await self._second
            again = caller.try_again(replica, failure.code)
            if again is None:
                raise
            if again is replica:
                await asyncio.sleep(RETRY_PAUSE_SECONDS * (1 + random.random()))  # noqa: S311 - spreads retries
                again = caller.replicas.pick() or again
            return await self._attempt(again)
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if self._beaten and self._second is not None and task is not None and not task.cancelling():
                return self._second.result()
            raise
        finally:
            overdue.cancel()
            if self._second is not None:
                self._second.cancel()

    async def _attempt(self, replica: Replica) -> Answer:
        """Ask a replica. Raises StageFailure."""
        started = self._loop.time()
        if started >= self._deadline:
            raise StageFailure(self._caller.stage, grpc.StatusCode.DEADLINE_EXCEEDED)
        call = replica.ask(self._request, timeout=self._deadline - started, metadata=outgoing_metadata())
        if self._first is None:
            self._first = call
        replica.in_flight += 1
        try:
            answer = self._read(await call)
        except grpc.aio.AioRpcError as error:
            raise self._failure(replica, error.code(), error.details() or "") from error
        except ValueError as error:
            raise self._failure(replica, grpc.StatusCode.INTERNAL, f"unusable: {error}") from error
        finally:
            replica.in_flight -= 1
        self._caller.replicas.succeeded(replica)
        self._caller.overdue.answered(self._loop.time() - started)
        return answer

    def _failure(self, replica: Replica, code: grpc.StatusCode, details: str) -> StageFailure:
        return self._caller.failure(replica, code, details, self._loop.time())

    def _try_beside(self, replica: Replica) -> None:
        """Ask another replica: this one is overdue."""
        other = self._caller.try_again(replica, None)
        if other is None:
            return

        def ended(second: asyncio.Task[Answer]) -> None:
            # A first attempt that has been answered at the same moment cannot be cancelled, and counts.
            if not second.cancelled() and second.exception() is None and self._first.cancel():
                self._beaten = True
                self._caller.failed(replica, "overdue", self._loop.time())

        self._second = self._loop.create_task(self._attempt(other))
        self._second.add_done_callback(ended)
