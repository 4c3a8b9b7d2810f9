"""The named steps of a request: each is timed, counted and traced here, and nowhere else."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

from winnow.serving.metrics import Metrics
from winnow.serving.tracing import calling

Step = Literal["users", "retrieve", "sources", "rank", "select", "explain"]


class StepClock:
    """How long a step took, once it is over."""

    __slots__ = ("microseconds",)

    def __init__(self) -> None:
        self.microseconds = 0


class Steps:
    """Measures steps. What it measures is in the answer's timing, in `winnow_step_seconds` and in the trace."""

    def __init__(self, metrics: Metrics) -> None:
        self._seconds = metrics.step_seconds

    @contextmanager
    def __call__(self, step: Step) -> Iterator[StepClock]:
        """Measure what is done within the context; an exception counts as the outcome `failed`."""
        clock = StepClock()
        started = time.perf_counter_ns()
        outcome = "failed"
        try:
            with calling(step):
                yield clock
            outcome = "completed"
        finally:
            nanoseconds = time.perf_counter_ns() - started
            clock.microseconds = nanoseconds // 1000
            self._seconds.labels(step, outcome).observe(nanoseconds / 1e9)
