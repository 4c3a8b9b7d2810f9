"""Calls to a stage: a deadline on each, one bounded retry, failures by name."""

import asyncio
import random
from collections.abc import Callable
from typing import Any

import grpc
import structlog

from gateway.settings import GatewaySettings
from winnow.serving.metrics import Metrics
from winnow.serving.tracing import outgoing_metadata

_log = structlog.get_logger(__name__)

Method = Callable[..., Any]
"""A unary method of a stub: `await method(request, timeout=..., metadata=...)`."""

# A retry at once would meet the same restarting replica; this long a pause costs little of a usual deadline.
RETRY_PAUSE_SECONDS = 0.01
# Another replica may answer: it is up, or holds the release that this one does not hold yet or no longer.
RETRIED_CODES = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.FAILED_PRECONDITION)
# Round robin spreads this many calls over as many replicas, so all of up to eight are asked.
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


class RetryBudget:
    """Allows retries up to a share of all calls, so that a failing stage is not buried under them."""

    # A few retries are always allowed after a quiet time; no more than this many can be saved up.
    MAX_TOKENS = 10.0

    def __init__(self, share: float) -> None:
        self._share = share
        self._tokens = self.MAX_TOKENS

    def on_call(self) -> None:
        """A call earns its share of a retry."""
        self._tokens = min(self._tokens + self._share, self.MAX_TOKENS)

    def take(self) -> bool:
        """Whether one retry may be made now."""
        if not self._share or self._tokens < 1:
            return False
        self._tokens -= 1
        return True


class StageCaller:
    """Makes one stage's calls: a deadline on each, one retry of RETRIED_CODES, failures by name.

    One a stage for the life of the gateway, shared by all releases: so is the budget.
    """

    def __init__(self, stage: str, method: Method, settings: GatewaySettings, metrics: Metrics) -> None:
        self.stage = stage
        self._method = method
        self._budget = RetryBudget(settings.retry_share)
        self._metrics = metrics

    def use_method(self, method: Method) -> None:
        """Make further calls with this one: of a new channel, when certificates are replaced."""
        self._method = method

    async def call(self, request: Any, deadline: float) -> Any:
        """Return the response. Raises StageFailure where there is none by the deadline (event-loop time)."""
        loop = asyncio.get_running_loop()
        self._budget.on_call()
        retried = False
        while True:
            remaining = deadline - loop.time()
            if remaining <= 0:
                raise self._failure(grpc.StatusCode.DEADLINE_EXCEEDED)
            try:
                return await self._method(request, timeout=remaining, metadata=outgoing_metadata())
            except grpc.aio.AioRpcError as error:
                code = error.code()
                if code not in RETRIED_CODES or retried or not self._budget.take():
                    _log.warning("stage call failed", stage=self.stage, code=code.name, details=error.details())
                    raise self._failure(code) from error
            retried = True
            self._metrics.stage_retries.labels(self.stage).inc()
            await asyncio.sleep(RETRY_PAUSE_SECONDS * (1 + random.random()))  # noqa: S311 - spreads retries, no secret

    async def held_by_all(self, empty_request: Any) -> bool:
        """Whether every replica that answers holds the release that the request, which asks nothing, is pinned to."""
        answers = await asyncio.gather(
            *(self._method(empty_request, timeout=PROBE_TIMEOUT_SECONDS) for _ in range(PROBE_CALLS)),
            return_exceptions=True,
        )
        return not any(isinstance(answer, BaseException) for answer in answers)

    async def say_in_use(self, empty_request: Any) -> None:
        """Tell a replica that the release is in use, so that it is not dropped in a quiet hour."""
        try:
            await self._method(empty_request, timeout=PROBE_TIMEOUT_SECONDS)
        except grpc.aio.AioRpcError as error:
            _log.debug("stage did not answer", stage=self.stage, code=error.code().name)

    def unusable(self, reason: str) -> StageFailure:
        """The failure for an answer that came but cannot be used."""
        _log.error("stage answer is unusable", stage=self.stage, reason=reason)
        return self._failure(grpc.StatusCode.INTERNAL)

    def _failure(self, code: grpc.StatusCode) -> StageFailure:
        self._metrics.stage_failures.labels(self.stage, code.name).inc()
        return StageFailure(self.stage, code)
