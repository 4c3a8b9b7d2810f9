"""Replicas are killed, stopped and restarted and releases are swapped under load; the invariant holds for callers."""

import asyncio
import signal
import time
from pathlib import Path

import pytest

from tests.faults.cluster import STAGES, Cluster
from tests.faults.conftest import load_while, swapping
from tests.faults.ledger import Judge, Ledger, Load

RATE = 60.0


@pytest.fixture
def load(cluster: Cluster, judge: Judge, ledger: Ledger) -> Load:
    return Load(cluster.gateway.target, judge, ledger, rate=RATE)


def test_swaps_without_a_fault(
    cluster: Cluster, judge: Judge, load: Load, ledger: Ledger, load_seconds: float,
    two_releases: tuple[Path, list[str]],
) -> None:  # fmt: skip
    steady = Ledger("steady")
    load_while(Load(cluster.gateway.target, judge, steady, rate=RATE), load_seconds)
    steady_mib = {replica.module: replica.rss_bytes() / 2**20 for replica in cluster.all()}
    give_up = time.monotonic() + load_seconds + 30

    def one_is_missing() -> bool:
        named = {call.response.release_id for call in ledger.calls if call.response}
        return named != set(two_releases[1]) and time.monotonic() < give_up

    with swapping(two_releases):
        asyncio.run(load.run(load_seconds, go_on=one_is_missing))
    peak_mib = {replica.module: replica.peak_rss_bytes() / 2**20 for replica in cluster.all()}
    ledger.notes.append(
        f"p99 {steady.seconds(99) * 1000:.1f} ms steady, {ledger.seconds(99) * 1000:.1f} ms with a swap every 2 s; "
        + "peak MiB (steady): "
        + ", ".join(f"{module} {peak_mib[module]:.0f} ({steady_mib[module]:.0f})" for module in peak_mib)
    )
    assert ledger.violations == []
    assert ledger.codes.keys() == {"OK"}
    assert ledger.degraded_count == 0
    assert {call.response.release_id for call in ledger.calls if call.response} == set(two_releases[1])


@pytest.mark.parametrize("stage", STAGES)
def test_sigkill_of_one_of_two_replicas(
    cluster: Cluster, load: Load, ledger: Ledger, load_seconds: float, stage: str,
    two_releases: tuple[Path, list[str]],
) -> None:  # fmt: skip
    victim = cluster.replicas[stage][0]

    def kill_and_restart() -> None:
        victim.kill()
        time.sleep(load_seconds / 4)
        victim.start()
        victim.wait_until_healthy()

    with swapping(two_releases):
        load_while(load, load_seconds, kill_and_restart)
    assert ledger.violations == []
    # The other replica repeats what was in flight at the killed one.
    assert ledger.full_count >= 0.97 * len(ledger.calls)
    assert ledger.codes["OK"] == len(ledger.calls)


def test_rolling_restart_of_the_stages(
    cluster: Cluster, load: Load, ledger: Ledger, load_seconds: float, two_releases: tuple[Path, list[str]]
) -> None:
    def restart_one_by_one() -> None:
        for stage in STAGES:
            for replica in cluster.replicas[stage]:
                replica.signal(signal.SIGTERM)
                assert replica.wait() == 0
                replica.start()
                replica.wait_until_healthy()
                time.sleep(2.5)  # until the gateway has reconnected: it tries every second

    with swapping(two_releases):
        load_while(load, 3 * load_seconds, restart_one_by_one)
    assert ledger.violations == []
    assert ledger.codes["OK"] == len(ledger.calls)
    assert ledger.full_count >= 0.99 * len(ledger.calls)


def test_restart_of_the_gateway(cluster: Cluster, load: Load, ledger: Ledger, load_seconds: float) -> None:
    def restart() -> None:
        cluster.gateway.signal(signal.SIGTERM)
        assert cluster.gateway.wait() == 0
        cluster.gateway.start()
        cluster.gateway.wait_until_healthy()

    load_while(load, load_seconds, restart)
    assert ledger.violations == []
    # With a single gateway, calls during the restart are refused at once; none that was accepted is lost.
    assert ledger.codes.keys() <= {"OK", "UNAVAILABLE"}


@pytest.mark.parametrize("stage", STAGES)
def test_sigstop_and_sigcont_of_a_replica(
    cluster: Cluster, load: Load, ledger: Ledger, load_seconds: float, stage: str
) -> None:
    victim = cluster.replicas[stage][1]

    def freeze() -> None:
        victim.signal(signal.SIGSTOP)
        time.sleep(max(load_seconds / 2, 4))
        victim.signal(signal.SIGCONT)

    load_while(load, load_seconds, freeze)
    assert ledger.violations == []
    assert ledger.codes["OK"] >= 0.9 * len(ledger.calls)
    # Keepalive detects the frozen replica within a few seconds, so that in the end all answers are full.
    assert ledger.all_full_of_late()


def test_both_ranking_replicas_down_and_back(cluster: Cluster, load: Load, ledger: Ledger, load_seconds: float) -> None:
    def away() -> None:
        for replica in cluster.replicas["ranking_service"]:
            replica.kill()
        time.sleep(1.5)
        for replica in cluster.replicas["ranking_service"]:
            replica.start()
        for replica in cluster.replicas["ranking_service"]:
            replica.wait_until_healthy()

    load_while(load, load_seconds, away)
    assert ledger.violations == []
    assert ledger.codes["OK"] == len(ledger.calls)
    assert ledger.degraded_count > 0
    assert ledger.all_full_of_late()
