"""A soak: `python -m tests.faults.soak --minutes 30 --plot docs/soak.png`.

Calls come at a constant rate, a tenth of them cancelled, while everything happens that may leave something behind: a
release is swapped every few seconds, replicas are killed and restarted, and one is slow half of the time. What each
process holds is sampled. The plot shows it over time; the table that is printed says how fast it grows, with twice the
standard error: growth within that is noise. Exits with status 1 if a call broke the invariant.
"""

import argparse
import asyncio
import signal
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import matplotlib as mpl
import numpy as np
from numpy.typing import NDArray

from tests.faults.cluster import HOST, STAGES, Cluster, Replica, StandIn
from tests.faults.conftest import swapping
from tests.faults.ledger import Call, Judge, Ledger, Load, degraded
from tests.releases import ITEM_COUNT, item_id, write_random_release
from winnow.serving.local_stack import free_port

RATE = 40.0
CANCEL_SHARE = 0.1
SECONDS_BETWEEN_SWAPS = 5.0
SECONDS_BETWEEN_FAULTS = 10.0
SAMPLES = 400
# Pools and caches reach their size in the first part, which does not count.
SETTLING_SHARE = 0.2
# Neighbouring samples are much alike: a line through the means of so many parts has an honest error.
PARTS = 12


def resident_mebibytes(process: Path) -> float:
    return int((process / "statm").read_text().split()[1]) * 4096 / 2**20


def descriptors(process: Path) -> float:
    return len(list((process / "fd").iterdir()))


def threads(process: Path) -> float:
    return len(list((process / "task").iterdir()))


def mapped_files(process: Path) -> float:
    """Different files; libraries are some of them, copies of releases in memory others."""
    lines = (line.split(maxsplit=5) for line in (process / "maps").read_text().splitlines())
    return len({(fields[3], fields[4]) for fields in lines if fields[4] != "0"})


QUANTITIES: dict[str, Callable[[Path], float]] = {
    "resident MiB": resident_mebibytes,
    "descriptors": descriptors,
    "threads": threads,
    "mapped files": mapped_files,
}


class Tally(Ledger):
    """Counts calls instead of keeping them."""

    def __init__(self) -> None:
        super().__init__("soak")
        self.outcomes: Counter[str] = Counter()

    def add(self, call: Call, judge: Judge) -> None:
        is_degraded = call.response is not None and degraded(call.response)
        self.outcomes["degraded" if is_degraded else call.code.name] += 1
        self.violations += judge.violations(call)


@dataclass
class Curves:
    """What one process held, by quantity, at each time in seconds. It may be another process after a restart."""

    seconds: list[float] = field(default_factory=list)
    values: dict[str, list[float]] = field(default_factory=lambda: {name: [] for name in QUANTITIES})

    def sample(self, replica: Replica, seconds: float) -> None:
        """Look at the process; where it is just being replaced, it is left out."""
        assert replica.process is not None
        try:
            found = {name: look(Path(f"/proc/{replica.process.pid}")) for name, look in QUANTITIES.items()}
        except (OSError, IndexError):
            return
        self.seconds.append(seconds)
        for name, value in found.items():
            self.values[name].append(value)

    def growth(self, name: str) -> tuple[float, float]:
        """Return the slope an hour and twice its standard error, of the time that counts."""
        seconds, values = np.array(self.seconds), np.array(self.values[name])
        counted = seconds >= SETTLING_SHARE * seconds[-1]
        hours_P = _means(seconds[counted] / 3600)
        values_P = _means(values[counted])
        slope, start = np.polyfit(hours_P, values_P, 1)
        residuals = values_P - (slope * hours_P + start)
        spread = ((hours_P - hours_P.mean()) ** 2).sum()
        return float(slope), float(2 * np.sqrt((residuals**2).sum() / (len(hours_P) - 2) / spread))


def _means(values: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.array([part.mean() for part in np.array_split(values, min(PARTS, len(values)))])


class Soak:
    """The services, what happens to them, and what they hold."""

    def __init__(self, releases: Path, log_file: Path, stack: ExitStack) -> None:
        log = stack.enter_context(log_file.open("ab"))
        self.cluster = Cluster(releases, log)
        stack.callback(self.cluster.stop)
        replicas = self.cluster.replicas
        self.cluster.add_stages()
        # Takes 30 seconds for each call while it is bad.
        flags = [replicas["ranking_service"][0].target, "slow"]
        self._slow = StandIn("tests.faults.faulty_stage", free_port(HOST), flags, log)
        replicas["slow ranking service"] = [self._slow]
        targets = [replica.target for replica in replicas["ranking_service"]]
        self.cluster.stage_targets = {"ranking_service": [*targets, self._slow.target]}
        self.cluster.add_gateway()
        self._slow.start()
        self._slow.wait_until_healthy()
        self.cluster.start_all()
        self.curves: dict[str, Curves] = {}
        self._ended = threading.Event()

    @property
    def observed(self) -> dict[str, Replica]:
        """By name. The second replica of each stage is killed now and then, the others live as long as the soak."""
        replicas = self.cluster.replicas
        stages = {f"{stage.replace('_', ' ')} {n + 1}": replicas[stage][n] for stage in STAGES for n in range(2)}
        return {"gateway": self.cluster.gateway, **stages}

    def run(self, load: Load, seconds: float) -> None:
        """Return when the time is over."""
        background = [
            threading.Thread(target=self._sample, args=(seconds / SAMPLES,)),
            threading.Thread(target=self._disturb),
        ]
        for thread in background:
            thread.start()
        try:
            asyncio.run(load.run(seconds))
        finally:
            self._ended.set()
            for thread in background:
                thread.join()

    def _sample(self, every_seconds: float) -> None:
        started = time.monotonic()
        while not self._ended.wait(every_seconds):
            for name, replica in self.observed.items():
                self.curves.setdefault(name, Curves()).sample(replica, time.monotonic() - started)

    def _disturb(self) -> None:
        """Kill a replica and start it again, or make the slow one slow, or good again."""
        number = 0
        while not self._ended.wait(SECONDS_BETWEEN_FAULTS):
            if number % 2:
                self._slow.signal(signal.SIGUSR1 if number % 4 == 1 else signal.SIGUSR2)
            else:
                victim = self.cluster.replicas[STAGES[number // 2 % 2]][1]
                victim.kill()
                victim.start()
                victim.wait_until_healthy()
            number += 1


def plot(curves: dict[str, Curves], path: Path) -> None:
    """Write a picture with a panel for each quantity and a curve for each process."""
    mpl.use("Agg")
    from matplotlib import pyplot as plt

    figure, panels = plt.subplots(len(QUANTITIES), 1, sharex=True, figsize=(9, 11), layout="constrained")
    for panel, name in zip(panels, QUANTITIES, strict=True):
        for process, curve in curves.items():
            minutes = np.array(curve.seconds) / 60
            panel.plot(minutes, curve.values[name], label=process, linewidth=1)
        panel.set_ylabel(name)
        panel.set_ylim(bottom=0)
        panel.grid(alpha=0.3)
    panels[-1].set_xlabel("minutes")
    curves_and_names = panels[0].get_legend_handles_labels()
    figure.legend(*curves_and_names, loc="outside upper center", fontsize="small", ncols=len(curves))
    figure.savefig(path, dpi=110)
    plt.close(figure)


def table(curves: dict[str, Curves], restarted: Sequence[str]) -> list[str]:
    """Return the lines of a Markdown table: what each process holds at the end, and its growth an hour."""
    lines = [f"| process | {' | '.join(f'{name} | growth an hour' for name in QUANTITIES)} |"]
    lines.append("|---" * (2 * len(QUANTITIES) + 1) + "|")
    for process, curve in curves.items():
        cells = [process + (" (restarted)" if process in restarted else "")]
        for name in QUANTITIES:
            slope, noise = curve.growth(name)
            # Of several processes, one after the other, it says nothing.
            cells += [f"{curve.values[name][-1]:.0f}", "" if process in restarted else f"{slope:+.1f} ± {noise:.1f}"]
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def main(minutes: float, picture: Path) -> int:
    """Run the soak and return the exit status."""
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="soak-")))
        release_ids = [write_random_release(directory / "releases", seed=seed) for seed in (1, 2)]
        judge = Judge(directory / "releases", release_ids, [item_id(row) for row in range(ITEM_COUNT)])
        soak = Soak(directory / "releases", directory / "services.log", stack)
        tally = Tally()
        load = Load(soak.cluster.gateway.target, judge, tally, rate=RATE, cancel_share=CANCEL_SHARE, connections=4)
        with swapping((directory / "releases", release_ids), SECONDS_BETWEEN_SWAPS):
            soak.run(load, 60 * minutes)
        plot(soak.curves, picture)
        restarted = [f"{stage.replace('_', ' ')} 2" for stage in STAGES]
        outcomes = ", ".join(f"{count} {name}" for name, count in tally.outcomes.most_common())
        violations = [f"{count} times: {text}" for text, count in Counter(tally.violations).most_common(10)]
        report = [
            f"{tally.outcomes.total()} calls in {minutes:g} minutes: {outcomes}; {len(tally.violations)} violations",
            *violations,
            "",
            *table(soak.curves, restarted),
        ]
        sys.stdout.write("\n".join(report) + "\n")
        return 1 if tally.violations else 0


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--plot", type=Path, default=Path("docs/soak.png"))
    arguments = parser.parse_args()
    raise SystemExit(main(arguments.minutes, arguments.plot))
