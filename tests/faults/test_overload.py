"""More calls than the stack can answer: those that cannot be answered in time are rejected at once.

The stages have a known capacity. So the load is too much for them on every machine, and not for the machine itself.
"""

import asyncio
import time
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from tests.faults.cluster import HOST, STAGES, Cluster, Replica, StandIn
from tests.faults.conftest import load_while
from tests.faults.ledger import Judge, Ledger, Load
from winnow.serving.local_stack import free_port

TIMEOUT_SECONDS = 1.0
CAPACITY = 200.0
"""More than the slower stage can do in a second: see paced_stage.py."""
CALLERS = 64
ROUNDS = 3
# Until a load is as it stays.
WARM_UP_SECONDS = 1.0
SMALLEST_GOODPUT_SHARE = 0.9
LARGEST_REFUSED_SHARE = 0.01
# A gigabyte a day at a few calls a second.
LEAKED_BYTES_PER_CALL = 5_000


@pytest.fixture(scope="module")
def paced_cluster(two_releases: tuple[Path, list[str]], cluster_log: Path) -> Iterator[Cluster]:
    """A gateway with one replica of each stage, which does no more than it is made to."""
    with cluster_log.open("ab") as log:
        made = Cluster(two_releases[0], log, replica_count=1)
        try:
            made.add_stages()
            for stage in STAGES:
                target = made.replicas[stage][0].target
                paced = StandIn("tests.faults.paced_stage", free_port(HOST), [target], log)
                made.replicas[f"paced {stage}"] = [paced]
                made.stage_targets[stage] = [paced.target]
                paced.start()
                paced.wait_until_healthy()
            made.add_gateway()
            made.start_all()
            yield made
        finally:
            made.stop()


def services(cluster: Cluster) -> list[Replica]:
    """Without what paces them."""
    return [replica for module in (*STAGES, "gateway") for replica in cluster.replicas[module]]


def test_three_times_the_load(paced_cluster: Cluster, judge: Judge, ledger: Ledger, load_seconds: float) -> None:
    """As many answers as at the peak, which is measured in turn with it."""

    def goodput_at(rate: float, found: Ledger) -> float:
        """Of callers who wait for their answers where there is no rate: as many as keep the stages busy."""
        load = Load(target, judge, found, rate=rate, timeout_seconds=TIMEOUT_SECONDS, connections=CALLERS)
        begin = time.monotonic() + WARM_UP_SECONDS
        end = begin + load_seconds
        seconds = WARM_UP_SECONDS + load_seconds
        asyncio.run(load.run(seconds) if rate else load.run_callers(CALLERS, seconds))
        counted = Ledger("counted", [call for call in found.calls if begin <= call.finished_at < end])
        return counted.full_count / load_seconds

    target = paced_cluster.gateway.target
    saturated = Ledger("saturated")
    peaks, shares = [], []
    for _ in range(ROUNDS):
        peaks.append(goodput_at(0.0, saturated))
        shares.append(goodput_at(3 * CAPACITY, ledger) / peaks[-1])
    share = sorted(shares)[ROUNDS // 2]
    ledger.notes.append(
        f"peak {max(peaks):.0f} full answers/s; {share:.0%} of it at three times the load "
        f"({min(shares):.0%} to {max(shares):.0%})"
    )
    assert saturated.violations == []
    assert ledger.violations == []
    assert share >= SMALLEST_GOODPUT_SHARE

    after = Ledger("after")
    asyncio.run(Load(target, judge, after, rate=CAPACITY / 4, timeout_seconds=TIMEOUT_SECONDS).run(4))
    later = after.since(after.calls[0].finished_at + 2)
    assert later.codes.keys() == {"OK"}, "not recovered within two seconds"


def test_callers_who_would_all_be_answered_in_time_are_not_refused(
    paced_cluster: Cluster, judge: Judge, ledger: Ledger, load_seconds: float
) -> None:
    """64 callers who wait for their answers keep the stages busy, and get each answer in a third of their deadline."""
    load = Load(paced_cluster.gateway.target, judge, ledger, timeout_seconds=TIMEOUT_SECONDS, connections=CALLERS)
    asyncio.run(load.run_callers(CALLERS, load_seconds))
    assert ledger.violations == []
    assert ledger.codes["RESOURCE_EXHAUSTED"] <= LARGEST_REFUSED_SHARE * len(ledger.calls)
    assert ledger.codes["OK"] >= (1 - 2 * LARGEST_REFUSED_SHARE) * len(ledger.calls)


def test_health_is_answered_under_overload(paced_cluster: Cluster, judge: Judge, ledger: Ledger) -> None:
    answers: list[int] = []

    def ask_health() -> None:
        for replica in services(paced_cluster):
            with grpc.insecure_channel(replica.target) as channel:
                for name in ("", "liveness"):
                    request = health_pb2.HealthCheckRequest(service=name)
                    answers.append(health_pb2_grpc.HealthStub(channel).Check(request, timeout=5).status)

    load = Load(paced_cluster.gateway.target, judge, ledger, rate=3 * CAPACITY, timeout_seconds=TIMEOUT_SECONDS)
    load_while(load, 5, ask_health, recovers=False)
    assert ledger.violations == []
    assert ledger.codes["RESOURCE_EXHAUSTED"] > 0, "the load was more than the stack can answer"
    assert answers == [health_pb2.HealthCheckResponse.SERVING] * 2 * len(services(paced_cluster))


def test_half_of_all_calls_cancelled(paced_cluster: Cluster, judge: Judge, ledger: Ledger, load_seconds: float) -> None:
    load = Load(paced_cluster.gateway.target, judge, ledger, rate=CAPACITY / 2, cancel_share=0.5)
    asyncio.run(load.run(load_seconds / 2))  # so that pools and caches reach their size
    slopes: dict[str, list[float]] = {replica.module: [] for replica in services(paced_cluster)}
    for _ in range(2):
        before = {replica.module: replica.rss_bytes() for replica in services(paced_cluster)}
        called_before = len(ledger.calls)
        asyncio.run(load.run(load_seconds))
        for replica in services(paced_cluster):
            growth = replica.rss_bytes() - before[replica.module]
            slopes[replica.module].append(growth / (len(ledger.calls) - called_before))
    ledger.notes.append(
        "memory per call, twice: " + ", ".join(f"{module} {a:+.0f}, {b:+.0f} B" for module, (a, b) in slopes.items())
    )
    assert ledger.violations == []
    assert ledger.codes["CANCELLED"] > 0
    # A leak goes on; a pool that has grown once is none.
    assert all(min(both) < LEAKED_BYTES_PER_CALL for both in slopes.values()), slopes


def test_cancelled_work_frees_the_queue(paced_cluster: Cluster, judge: Judge, ledger: Ledger) -> None:
    """After a burst of cancelled calls the next ones are answered."""
    asyncio.run(Load(paced_cluster.gateway.target, judge, ledger, rate=3 * CAPACITY, cancel_share=1.0).run(2))
    after = Ledger("after")
    asyncio.run(Load(paced_cluster.gateway.target, judge, after, rate=5).run(2))
    assert ledger.violations == []
    assert after.violations == []
    assert after.codes.keys() == {"OK"}
