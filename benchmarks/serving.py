"""Measures all systems in turn: every round puts each load on each system, so that a slow minute affects all."""

import contextlib
import time
from collections.abc import Iterable
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
# Callers with a connection each, as separate back ends have; the naive chain would need minutes.
CALLER_COUNTS = (32, 64)
CALLERS_SYSTEMS = ("noop_single_hop", "noop_chain", "winnow", "winnow_native")
WARM_UP_SECONDS = 0.5


@dataclass(frozen=True, kw_only=True)
class Effort:
    """How often and how long everything is measured."""

    arithmetic_repetitions: int
    rounds: int
    alone_seconds: float
    saturated_seconds: float
    callers_seconds: float
    open_loop_seconds: float
    open_loop_shares: tuple[float, ...]
    """Open-loop loads on Winnow, as shares of its saturated rate; JUDGED_SHARE is one of them."""


@dataclass(frozen=True, kw_only=True)
class Round:
    """One load on one system."""

    measured: Measured
    cpu_seconds: float
    """CPU time of all processes of the system while the load lasted, its warm-up included; the client's is not."""

    def figure(self, name: str) -> float:
        """Return `rate`, answers per second; `cpu`, milliseconds per answer; or a percentile in milliseconds."""
        if name == "rate":
            return self.measured.rate_per_second
        if name == "cpu":
            seconds = self.measured.seconds
            answered = self.measured.answered_count * (seconds + WARM_UP_SECONDS) / seconds
            return self.cpu_seconds / max(answered, 1) * 1000
        return self.measured.milliseconds(name)


@dataclass(kw_only=True)
class Served:
    """The figures of one preset."""

    rounds: dict[str, dict[str, list[Round]]] = field(default_factory=dict)
    """By load (`alone`, `saturated`, `callers_32` ...) and system."""
    open_loop: list[Point] = field(default_factory=list)
    start_seconds: dict[str, float] = field(default_factory=dict)
    memory_mebibytes: dict[str, dict[str, int]] = field(default_factory=dict)
    """Winnow's processes at the end: `private` memory is not backed by files, `resident` is everything."""
    top_20_overlap: float = 0.0

    def median_ratio(self, load: str, ours: str, over: str, figure: str) -> tuple[float, float, float]:
        """Return median, minimum and maximum over the rounds of one system's figure divided by another's."""
        runs = self.rounds[load]
        return _spread(
            ours_once.figure(figure) / max(theirs_once.figure(figure), 1e-9)
            for ours_once, theirs_once in zip(runs[ours], runs[over], strict=True)
        )

    def median_figure(self, load: str, system: str, figure: str) -> tuple[float, float, float]:
        """Return median, minimum and maximum over the rounds."""
        return _spread(once.figure(figure) for once in self.rounds[load][system])

    def as_json(self) -> dict[str, Any]:
        """Return the figures as JSON values."""
        return {
            **{
                load: {system: _as_json(rounds) for system, rounds in systems.items()}
                for load, systems in self.rounds.items()
            },
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

    def put(name: str, system: RunningSystem, seconds: float, **kind: Any) -> None:
        """Put a closed loop on a system."""
        before = system.cpu_seconds()
        measured = load(system, seconds, warm_up_seconds=WARM_UP_SECONDS, **kind)
        rounds = served.rounds.setdefault(name, {}).setdefault(system.name, [])
        rounds.append(Round(measured=measured, cpu_seconds=system.cpu_seconds() - before))

    with contextlib.ExitStack() as running:
        systems = {}
        for name in preset.systems:
            started = time.monotonic()
            systems[name] = running.enter_context(SYSTEMS[name](directory))
            served.start_seconds[name] = round(time.monotonic() - started, 1)
        served.top_20_overlap = served_overlap(preset, directory, systems["winnow"].target, reference)
        for _ in range(effort.rounds):
            for system in systems.values():
                put("alone", system, effort.alone_seconds, concurrency=1)
            for name, system in systems.items():
                callers = preset.naive_callers if name == "naive_chain" else preset.saturating_callers
                put("saturated", system, effort.saturated_seconds, concurrency=callers)
            for callers in CALLER_COUNTS:
                for name in CALLERS_SYSTEMS:
                    if name in systems:
                        put(
                            f"callers_{callers}",
                            systems[name],
                            effort.callers_seconds,
                            concurrency=callers,
                            connection_per_caller=True,
                        )
        saturated = [once.measured for once in served.rounds["saturated"]["winnow"]]
        saturated_rate = added_over_time(saturated).rate_per_second
        for share in effort.open_loop_shares:
            rate = share * saturated_rate
            measured = load(systems["winnow"], effort.open_loop_seconds, rate_per_second=rate)
            served.open_loop.append(Point(offered=f"{share:.0%}", rate_per_second=rate, measured=measured))
        served.memory_mebibytes = {
            role: systems["winnow"].memory_mebibytes(role) for role in systems["winnow"].processes
        }
    return served


def _as_json(rounds: list[Round]) -> dict[str, Any]:
    cpu_milliseconds, _, _ = _spread(once.figure("cpu") for once in rounds)
    return {
        **added_over_time([once.measured for once in rounds]).as_json(),
        "cpu_microseconds_per_request": round(cpu_milliseconds * 1000),
    }


def _spread(values: Iterable[float]) -> tuple[float, float, float]:
    ordered = sorted(values)
    return ordered[len(ordered) // 2], ordered[0], ordered[-1]
