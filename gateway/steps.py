"""The named steps of a request: each is timed, counted and traced here, and nowhere else."""

import time
from contextlib import AbstractContextManager
from types import TracebackType
from typing import Literal

from prometheus_client import Histogram

from winnow.serving.metrics import Metrics
from winnow.serving.tracing import calling

Step = Literal["users", "retrieve", "sources", "rank", "select", "explain"]


class StepClock:
    """Measures what is done within its context; `microseconds` says how long that took, once it is over."""

    __slots__ = ("_span", "_started", "_step", "_steps", "microseconds")

    def __init__(self, steps: "Steps", step: Step) -> None:
        self._steps = steps
        self._step: Step = step
        self.microseconds = 0

    def __enter__(self) -> "StepClock":
        self._started = time.perf_counter_ns()
        self._span: AbstractContextManager[None] = calling(self._step)
        self._span.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._span.__exit__(kind, error, traceback)
        nanoseconds = time.perf_counter_ns() - self._started
        self.microseconds = nanoseconds // 1000
        self._steps.observe(self._step, "completed" if kind is None else "failed", nanoseconds / 1e9)


class Steps:
    """Measures steps. What it measures is in the answer's timing, in `winnow_step_seconds` and in the trace."""

    def __init__(self, metrics: Metrics) -> None:
        self._seconds = metrics.step_seconds
        # Looking a child up takes as long as counting does.
        self._children: dict[tuple[Step, str], Histogram] = {}

    def __call__(self, step: Step) -> StepClock:
        """Measure what is done within the context; an exception counts as the outcome `failed`."""
        return StepClock(self, step)

    def observe(self, step: Step, outcome: str, seconds: float) -> None:
        """Count a step that has ended."""
        child = self._children.get((step, outcome))
        if child is None:
            child = self._children[step, outcome] = self._seconds.labels(step, outcome)
        child.observe(seconds)
