"""Measures all systems in turn: every round puts each load on each system, so that a slow minute affects all."""

import contextlib
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.presets import Preset
from benchmarks.quality import served_overlap
from benchmarks.releases import load_requests
from benchmarks.systems import SYSTEMS, RunningSystem
from winnow.loadtest.load import Load
from winnow.loadtest.measured import Measured, added_over_time
from winnow.loadtest.processes import run_load
from winnow.loadtest.summary import Point

# Longer than any answer takes, even from the saturated naive chain: slow answers are measured instead of failing.
TIMEOUT_SECONDS = 30.0
# The share of its saturated rate at which Winnow's tail latency has a target.
JUDGED_SHARE = 0.7


@dataclass(frozen=True, kw_only=True)
class Effort:
    """How often and how long everything is measured."""

    arithmetic_repetitions: int
    rounds: int
    alone_seconds: float
    saturated_seconds: float
    open_loop_seconds: float
    open_loop_shares: tuple[float, ...]
    """Open-loop loads on Winnow, as shares of its saturated rate; JUDGED_SHARE is one of them."""


@dataclass(kw_only=True)
class Served:
    """The figures of one preset. Lists have one entry per round, by system."""

    alone: dict[str, list[Measured]] = field(default_factory=dict)
    saturated: dict[str, list[Measured]] = field(default_factory=dict)
    cpu_microseconds: dict[str, float] = field(default_factory=dict)
    """CPU time of all processes of a system per request at saturation, without the client."""
    open_loop: list[Point] = field(default_factory=list)
    start_seconds: dict[str, float] = field(default_factory=dict)
    memory_mebibytes: dict[str, dict[str, float]] = field(default_factory=dict)
    """Winnow's processes at the end: `private` memory is not backed by files, `resident` is everything."""
    top_20_overlap: float = 0.0

    def median_ratio(self, kind: str, over: str, figure: str) -> tuple[float, float, float]:
        """Return median, minimum and maximum over the rounds of Winnow's figure divided by another system's."""
        runs: dict[str, list[Measured]] = getattr(self, kind)
        ratios = sorted(
            _figure(ours, figure) / max(_figure(theirs, figure), 1e-9)
            for ours, theirs in zip(runs["winnow"], runs[over], strict=True)
        )
        return ratios[len(ratios) // 2], ratios[0], ratios[-1]

    def as_json(self) -> dict[str, Any]:
        """Return the figures as JSON values."""
        return {
            "alone": {name: added_over_time(runs).as_json() for name, runs in self.alone.items()},
            "saturated": {name: added_over_time(runs).as_json() for name, runs in self.saturated.items()},
            "cpu_microseconds_per_request": {name: round(value) for name, value in self.cpu_microseconds.items()},
            "open_loop": [point.as_json() for point in self.open_loop],
            "start_seconds": self.start_seconds,
            "memory_mebibytes": self.memory_mebibytes,
            "top_20_overlap": round(self.top_20_overlap, 4),
        }


def measure(preset: Preset, directory: Path, effort: Effort, reference: list[list[str]]) -> Served:
    """Start every system with the preset's release and measure it."""
    served = Served()
    requests = load_requests(directory, preset.answer_length)

    def load(system: RunningSystem, seconds: float, **kind: Any) -> Measured:
        return run_load(
            Load(
                target=system.target,
                requests=requests,
                answer_length=preset.answer_length,
                seconds=seconds,
                timeout_seconds=TIMEOUT_SECONDS,
                **kind,
            )
        )

    with contextlib.ExitStack() as running:
        systems = {}
        for name, start in SYSTEMS.items():
            started = time.monotonic()
            systems[name] = running.enter_context(start(directory))
            served.start_seconds[name] = round(time.monotonic() - started, 1)
        served.top_20_overlap = served_overlap(preset, directory, systems["winnow"].target, reference)
        cpu_seconds, answered = dict.fromkeys(systems, 0.0), dict.fromkeys(systems, 0)
        for _ in range(effort.rounds):
            for name, system in systems.items():
                served.alone.setdefault(name, []).append(load(system, effort.alone_seconds, concurrency=1))
            for name, system in systems.items():
                callers = preset.naive_callers if name == "naive_chain" else preset.saturating_callers
                before = system.cpu_seconds()
                measured = load(system, effort.saturated_seconds, concurrency=callers, warm_up_seconds=0.5)
                served.saturated.setdefault(name, []).append(measured)
                cpu_seconds[name] += system.cpu_seconds() - before
                answered[name] += round(measured.answered_count * (1 + 0.5 / effort.saturated_seconds))
        served.cpu_microseconds = {name: cpu_seconds[name] / max(answered[name], 1) * 1e6 for name in systems}
        saturated_rate = added_over_time(served.saturated["winnow"]).rate_per_second
        for share in effort.open_loop_shares:
            rate = share * saturated_rate
            measured = load(systems["winnow"], effort.open_loop_seconds, rate_per_second=rate)
            served.open_loop.append(Point(offered=f"{share:.0%}", rate_per_second=rate, measured=measured))
        served.memory_mebibytes = {
            role: systems["winnow"].memory_mebibytes(role) for role in systems["winnow"].processes
        }
    return served


def _figure(measured: Measured, figure: str) -> float:
    return measured.rate_per_second if figure == "rate" else measured.milliseconds(figure)
