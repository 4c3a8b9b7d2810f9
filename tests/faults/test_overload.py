"""More calls than the stack can answer: those that cannot be answered in time are rejected at once."""

import asyncio
import time
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from tests.faults.cluster import STAGES, Cluster
from tests.faults.conftest import load_while
from tests.faults.ledger import Judge, Ledger, Load

TIMEOUT_SECONDS = 0.5


@pytest.fixture(scope="module")
def slow_cluster(two_releases: tuple[Path, list[str]], cluster_log: Path) -> Iterator[Cluster]:
    """A gateway whose stages are the bottleneck: one query a call, one call at a time."""
    with cluster_log.open("ab") as log:
        made = Cluster(
            two_releases[0], log, replica_count=1, gateway_flags=["--max-batch-queries=1", "--max-batches-in-flight=1"]
        )
        try:
            made.start()
            yield made
        finally:
            made.stop()


def goodput(ledger: Ledger, seconds: float) -> float:
    return ledger.full_count / seconds


def test_three_times_the_capacity(slow_cluster: Cluster, judge: Judge, ledger: Ledger, load_seconds: float) -> None:
    target = slow_cluster.gateway.target
    peak = 0.0
    rate = 50.0
    while True:  # raise the rate until goodput no longer follows: that is the peak
        probe = Ledger("probe")
        load_while(Load(target, judge, probe, rate=rate, timeout_seconds=TIMEOUT_SECONDS), 3)
        assert probe.violations == []
        reached = goodput(probe, 3)
        peak = max(peak, reached)
        if reached < 0.8 * rate:
            break
        rate *= 1.5
    load_while(Load(target, judge, ledger, rate=3 * peak, timeout_seconds=TIMEOUT_SECONDS), load_seconds)
    share = goodput(ledger, load_seconds) / peak
    ledger.notes.append(f"peak {peak:.0f} full answers/s; {share:.0%} of it at three times the load")
    assert ledger.violations == []
    assert share > 0.5, "goodput collapsed"

    started = time.monotonic()
    after = Ledger("after")
    load_while(Load(target, judge, after, rate=peak / 4, timeout_seconds=TIMEOUT_SECONDS), 5)
    late = [call for call in after.calls if call.code is not grpc.StatusCode.OK and call.finished_at > started + 4]
    assert late == [], "not recovered within 5 seconds"


def test_health_is_answered_under_overload(slow_cluster: Cluster, judge: Judge, ledger: Ledger) -> None:
    answers: list[int] = []

    def ask_health() -> None:
        for replica in slow_cluster.all():
            with grpc.insecure_channel(replica.target) as channel:
                for name in ("", "liveness"):
                    request = health_pb2.HealthCheckRequest(service=name)
                    answers.append(health_pb2_grpc.HealthStub(channel).Check(request, timeout=5).status)

    load_while(
        Load(slow_cluster.gateway.target, judge, ledger, rate=600, timeout_seconds=TIMEOUT_SECONDS), 5, ask_health
    )
    assert ledger.violations == []
    assert ledger.codes["RESOURCE_EXHAUSTED"] > 0, "the load was more than the stack can answer"
    assert answers == [health_pb2.HealthCheckResponse.SERVING] * 2 * len(slow_cluster.all())


def test_half_of_all_calls_cancelled(slow_cluster: Cluster, judge: Judge, ledger: Ledger, load_seconds: float) -> None:
    load = Load(slow_cluster.gateway.target, judge, ledger, rate=80, cancel_share=0.5)
    asyncio.run(load.run(2))  # so that pools and caches reach their size
    before = {replica.target: replica.rss_bytes() for replica in slow_cluster.all()}
    called_before = len(ledger.calls)
    asyncio.run(load.run(2 * load_seconds))
    calls = len(ledger.calls) - called_before
    growth = {replica.module: (replica.rss_bytes() - before[replica.target]) / calls for replica in slow_cluster.all()}
    ledger.notes.append("memory per call: " + ", ".join(f"{module} {slope:+.0f} B" for module, slope in growth.items()))
    assert ledger.violations == []
    assert ledger.codes["CANCELLED"] > 0
    # 5 kB per call would be a gigabyte per day at a few calls per second: a leak, not noise.
    assert all(slope < 5_000 for slope in growth.values()), growth


@pytest.mark.parametrize("stage", STAGES)
def test_cancelled_work_frees_the_queue(slow_cluster: Cluster, judge: Judge, ledger: Ledger, stage: str) -> None:
    """After a burst of cancelled calls the next one is answered at once."""
    asyncio.run(Load(slow_cluster.gateway.target, judge, ledger, rate=300, cancel_share=1.0).run(1))
    after = Ledger("after")
    asyncio.run(Load(slow_cluster.gateway.target, judge, after, rate=5, timeout_seconds=TIMEOUT_SECONDS).run(1))
    assert ledger.violations == []
    assert after.violations == []
    assert after.codes.keys() == {"OK"}
