"""An external candidate source turns bad: answers lose its candidates and nothing else, and nobody waits long."""

import asyncio
import json
import signal
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.faults.cluster import HOST, Cluster, StandIn
from tests.faults.faulty_source import MODES, PROPOSED
from tests.faults.ledger import Call, Judge, Ledger, Load
from tests.releases import ITEM_COUNT, item_id
from winnow.client import WinnowClient
from winnow.serving.local_stack import free_port

CALLERS = 8
# A machine that is busy with something else for a moment may spoil a measurement; a defect spoils all of them.
MOST_MEASUREMENTS = 3
HEALTHY_SECONDS = 2.0
NOTICED_AFTER_SECONDS = 2.0
LARGEST_DEGRADED_SHARE = 0.02
SMALLEST_RATE_SHARE = 0.6
# Its circuit is probed again after at most ten seconds.
RECOVERY_SECONDS = 20.0
NAME = "editors"


class SourceProcess(StandIn):
    """The external source; its flag is the mode."""

    def turn_bad(self, fault: str) -> None:
        if fault == "killed":
            self.kill()
        else:
            self.signal(signal.SIGSTOP if fault == "stopped" else signal.SIGUSR1)


@pytest.fixture(scope="module")
def judge_of_union(two_releases: tuple[Path, list[str]]) -> Judge:
    return Judge(*two_releases, [item_id(row) for row in range(ITEM_COUNT)], further=PROPOSED)


@pytest.fixture(scope="module")
def with_source(two_releases: tuple[Path, list[str]], cluster_log: Path) -> Iterator[tuple[Cluster, SourceProcess]]:
    """One replica of each stage, a gateway, and an external source."""
    with ExitStack() as stack:
        log = stack.enter_context(cluster_log.open("ab"))
        source = SourceProcess("tests.faults.faulty_source", free_port(HOST), ["hangs"], log)
        settings = {"name": NAME, "target": source.target, "candidate_count": 200, "timeout_seconds": 0.2}
        made = Cluster(two_releases[0], log, 1, [f"--external-sources={json.dumps([settings])}"])
        stack.callback(made.stop)
        source.start()
        made.start()
        made.replicas["source"] = [source]
        yield made, source


def has_its_candidates(call: Call) -> bool:
    return call.response is not None and any(
        named.source == NAME for item in call.response.items for named in item.sources
    )


def wait_until_used(target: str) -> None:
    """Return when answers have candidates of the source again."""
    with WinnowClient(target, timeout_seconds=2) as client:
        give_up = time.monotonic() + RECOVERY_SECONDS
        while not any(named.source == NAME for item in client.recommend([], count=100).items for named in item.sources):
            assert time.monotonic() < give_up, "the source is not asked again"
            time.sleep(0.05)


@pytest.mark.parametrize("fault", [*MODES, "stopped", "killed"])
def test_external_source(
    with_source: tuple[Cluster, SourceProcess],
    judge_of_union: Judge,
    ledger: Ledger,
    load_seconds: float,
    cluster_log: Path,
    fault: str,
) -> None:
    ledger.fault = f"external source: {fault}"
    for _ in range(MOST_MEASUREMENTS):
        used_share, rate_share = measure(with_source, judge_of_union, ledger, load_seconds, cluster_log, fault)
        if rate_share >= SMALLEST_RATE_SHARE:
            break
    ledger.notes.append(
        f"after 2 s: {used_share:.0%} with its candidates, answers at {rate_share:.0%} of the healthy rate"
    )
    assert ledger.violations == []
    assert ledger.codes["OK"] >= 0.98 * len(ledger.calls)
    assert ledger.degraded_count <= LARGEST_DEGRADED_SHARE * len(ledger.calls)
    assert rate_share >= SMALLEST_RATE_SHARE
    # Single candidates that are wrong are dropped, and the others are used.
    assert used_share >= 0.5 if fault == "wrong_ids" else used_share == 0


def measure(
    with_source: tuple[Cluster, SourceProcess],
    judge: Judge,
    ledger: Ledger,
    load_seconds: float,
    cluster_log: Path,
    fault: str,
) -> tuple[float, float]:
    """Return the share of answers with candidates of the source, and the rate as a share of that while all is well."""
    cluster, source = with_source
    if source.process is not None and source.process.poll() is None:
        source.signal(signal.SIGCONT)
        source.kill()
    source.flags[0] = fault
    source.start()
    source.wait_until_healthy()
    wait_until_used(cluster.gateway.target)
    healthy, found = Ledger("healthy"), Ledger("with the fault")
    logged_before = len(cluster_log.read_bytes())
    seconds = NOTICED_AFTER_SECONDS + load_seconds / 2

    async def call(into: Ledger, seconds: float) -> None:
        await Load(cluster.gateway.target, judge, into, timeout_seconds=1.0).run_callers(CALLERS, seconds)

    async def traffic() -> None:
        await call(healthy, HEALTHY_SECONDS)
        source.turn_bad(fault)
        await call(found, seconds)

    asyncio.run(traffic())
    left_alone = b"candidate source is left alone" in cluster_log.read_bytes()[logged_before:]
    assert left_alone is (fault != "wrong_ids")
    assert healthy.violations == []
    assert sum(map(has_its_candidates, healthy.calls)) >= 0.5 * len(healthy.calls), "they make a difference"
    ledger.calls += found.calls
    ledger.violations += found.violations
    begun = min(call.finished_at - call.seconds for call in found.calls)
    later = found.since(begun + NOTICED_AFTER_SECONDS)
    rate = later.full_count / (seconds - NOTICED_AFTER_SECONDS)
    return sum(map(has_its_candidates, later.calls)) / len(later.calls), rate / (healthy.full_count / HEALTHY_SECONDS)
