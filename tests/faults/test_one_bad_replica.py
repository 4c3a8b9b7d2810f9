"""One of three replicas of a stage turns bad, in every way there is: soon nobody notices, and nobody gets nonsense.

Callers call as fast as they are answered, first while all is well, then with the fault. The fault begins while they
call; what is asked of the answers counts from two seconds later on. A machine that is busy with something else for a
moment may spoil a measurement, so it is repeated if need be; a defect spoils all of them.
"""

import asyncio
import signal
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.faults.cluster import HOST, STAGES, Cluster, StandIn
from tests.faults.faulty_stage import MODES
from tests.faults.ledger import Judge, Ledger, Load
from tests.faults.proxy import Proxy, Weather
from winnow.serving.local_stack import free_port

CALLERS = 8
MOST_MEASUREMENTS = 3
WARM_UP_SECONDS = 1.5
"""Longer than the gateway needs to find the replica again that has just been started."""
HEALTHY_SECONDS = 2.0
NOTICED_AFTER_SECONDS = 2.0
LARGEST_DEGRADED_SHARE = 0.02
SMALLEST_RATE_SHARE = 0.6
FAULTS = (*MODES, "stopped", "black_hole")


@dataclass
class Faulty:
    """The third replica of a stage, and the network before it."""

    replica: StandIn
    proxy: Proxy

    @contextmanager
    def bad(self, fault: str) -> Iterator[None]:
        if fault == "black_hole":
            self.proxy.weather = Weather(black_hole=True)
        else:
            self.replica.signal(signal.SIGSTOP if fault == "stopped" else signal.SIGUSR1)
        try:
            yield
        finally:
            self.proxy.weather = Weather()
            if fault == "stopped":
                self.replica.signal(signal.SIGCONT)


Whole = tuple[Cluster, dict[str, Faulty]]


@pytest.fixture(scope="module")
def whole(two_releases: tuple[Path, list[str]], cluster_log: Path) -> Iterator[Whole]:
    """Two good replicas of each stage, and a third one of each that can turn bad."""
    with ExitStack() as stack:
        log = stack.enter_context(cluster_log.open("ab"))
        made = Cluster(two_releases[0], log)
        stack.callback(made.stop)
        made.add_stages()
        faulty = {}
        for stage in STAGES:
            replica = StandIn("tests.faults.faulty_stage", free_port(HOST), [made.replicas[stage][0].target, ""], log)
            proxy = Proxy(HOST, replica.port)
            stack.enter_context(proxy.running())
            faulty[stage] = Faulty(replica, proxy)
        made.stage_targets = {
            stage: [*(replica.target for replica in made.replicas[stage]), faulty[stage].proxy.target]
            for stage in STAGES
        }
        made.add_gateway()
        for stage in STAGES:
            made.replicas[f"faulty {stage}"] = [faulty[stage].replica]
            faulty[stage].replica.start()
            faulty[stage].replica.wait_until_healthy()
        made.start_all()
        yield made, faulty


@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.parametrize("fault", FAULTS)
def test_one_of_three(
    whole: Whole,
    judge: Judge,
    ledger: Ledger,
    load_seconds: float,
    cluster_log: Path,
    stage: str,
    fault: str,
) -> None:
    ledger.fault = f"1 of 3 {stage}s: {fault}"
    for _ in range(MOST_MEASUREMENTS):
        degraded_share, rate_share = measure(whole, judge, ledger, load_seconds, cluster_log, stage, fault)
        if degraded_share <= LARGEST_DEGRADED_SHARE and rate_share >= SMALLEST_RATE_SHARE:
            break
    ledger.notes.append(
        f"after 2 s: {degraded_share:.1%} degraded, full answers at {rate_share:.0%} of the healthy rate"
    )
    assert ledger.violations == []
    assert ledger.codes["OK"] >= 0.98 * len(ledger.calls)
    assert degraded_share <= LARGEST_DEGRADED_SHARE
    assert rate_share >= SMALLEST_RATE_SHARE


def measure(
    whole: Whole, judge: Judge, ledger: Ledger, load_seconds: float, cluster_log: Path, stage: str, fault: str
) -> tuple[float, float]:
    """Return the share of degraded answers and the rate of full ones as a share of the rate while all is well."""
    cluster, faulty = whole
    bad = faulty[stage]
    bad.replica.kill()
    bad.replica.flags[1] = fault
    bad.replica.start()
    bad.replica.wait_until_healthy()
    healthy, found = Ledger("healthy"), Ledger("with the fault")
    logged_before = len(cluster_log.read_bytes())
    seconds = NOTICED_AFTER_SECONDS + load_seconds / 2

    async def call(into: Ledger, seconds: float) -> None:
        await Load(cluster.gateway.target, judge, into, timeout_seconds=1.0).run_callers(CALLERS, seconds)

    async def traffic() -> None:
        await call(Ledger("warm-up"), WARM_UP_SECONDS)
        await call(healthy, HEALTHY_SECONDS)
        with bad.bad(fault):
            await call(found, seconds)

    asyncio.run(traffic())
    log = cluster_log.read_bytes()[logged_before:].decode()
    met = [line for line in log.splitlines() if "replica ejected" in line and bad.proxy.target in line]
    assert met, "the replica was asked while it was bad"
    assert healthy.violations == []
    assert healthy.degraded_count == 0
    ledger.calls += found.calls
    ledger.violations += found.violations
    begun = min(call.finished_at - call.seconds for call in found.calls)
    later = found.since(begun + NOTICED_AFTER_SECONDS)
    rate = later.full_count / (seconds - NOTICED_AFTER_SECONDS)
    return later.degraded_count / len(later.calls), rate / (healthy.full_count / HEALTHY_SECONDS)
