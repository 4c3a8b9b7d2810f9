"""Many calls at once, and calls that are only begun: what cannot be taken is rejected, and others go on."""

import asyncio
import subprocess
import sys

import grpc
import pytest

from tests.faults.cluster import Cluster
from tests.faults.ledger import Judge, Ledger, Load

ALLOWED = {"OK", "RESOURCE_EXHAUSTED", "DEADLINE_EXCEEDED"}


@pytest.mark.parametrize("connections", [1, 30])
def test_three_thousand_calls_at_once(cluster: Cluster, judge: Judge, ledger: Ledger, connections: int) -> None:
    load = Load(cluster.gateway.target, judge, ledger, timeout_seconds=10, connections=connections)
    asyncio.run(load.burst(3_000))
    assert ledger.violations == []
    assert ledger.codes.keys() <= ALLOWED
    assert ledger.full_count > 0


def test_ten_thousand_calls_at_once_with_a_short_deadline(cluster: Cluster, judge: Judge, ledger: Ledger) -> None:
    load = Load(cluster.gateway.target, judge, ledger, timeout_seconds=1, connections=100)
    asyncio.run(load.burst(10_000))
    assert ledger.violations == []
    assert ledger.codes.keys() <= ALLOWED

    after = Ledger("after")
    asyncio.run(Load(cluster.gateway.target, judge, after, rate=20).run(4))
    assert after.violations == []
    assert after.since(after.calls[0].finished_at + 2).codes.keys() == {"OK"}, "not recovered within two seconds"


def test_rapid_reset_of_one_connection(cluster: Cluster, judge: Judge, ledger: Ledger, load_seconds: float) -> None:
    attack = subprocess.Popen(
        [sys.executable, "-m", "tests.faults.rapid_reset", str(cluster.gateway.port), str(load_seconds)],
        stdout=subprocess.PIPE,
        text=True,
    )
    before = cluster.gateway.rss_bytes()
    asyncio.run(Load(cluster.gateway.target, judge, ledger, rate=20).run(load_seconds))
    resets, _ = attack.communicate(timeout=30)
    growth = cluster.gateway.rss_bytes() - before
    ledger.notes.append(f"{int(resets)} resets beside them; memory of the gateway {growth / 2**20:+.0f} MiB")
    assert ledger.violations == []
    assert ledger.codes.keys() == {grpc.StatusCode.OK.name}
    assert int(resets) > 10_000
    assert growth < 200 * 2**20
