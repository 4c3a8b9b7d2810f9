"""Packets to a stage vanish: a real black hole, made by the kernel in a network namespace of its own.

Needs root, `unshare`, `ip` and `iptables`; skips, and says so, where they are not. The test runs itself again inside
the namespace, where loopback traffic is nobody else's.
"""

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults.cluster import Cluster
from tests.faults.conftest import load_while
from tests.faults.ledger import Judge, Ledger, Load

INSIDE = "WINNOW_FAULTS_INSIDE_NAMESPACE"
TOOLS = ("unshare", "ip", "iptables")


def test_dropped_packets_in_a_namespace(ledger: Ledger, load_seconds: float) -> None:
    if INSIDE in os.environ:
        pytest.skip("this is the inside")
    missing = [tool for tool in TOOLS if shutil.which(tool) is None]
    if missing or os.geteuid() != 0:
        pytest.skip(f"dropped packets are NOT tested: needs root and {', '.join(missing) or 'nothing else'}")
    inner = [sys.executable, "-m", "pytest", "-q", __file__, "--timeout=600", f"--load-seconds={load_seconds}"]
    result = subprocess.run(
        ["unshare", "--net", "sh", "-c", 'ip link set lo up && exec "$@"', "sh", *inner],
        env=os.environ | {INSIDE: "1"}, cwd=Path(__file__).parents[2], capture_output=True, text=True, timeout=600,
        check=False,
    )  # fmt: skip
    if "cannot make a network namespace" in result.stderr or "Operation not permitted" in result.stderr:
        pytest.skip(f"dropped packets are NOT tested: {result.stderr.strip()}")
    ledger.notes += [line for line in result.stdout.splitlines() if line.startswith("packets")]
    assert result.returncode == 0, result.stdout + result.stderr


@pytest.fixture
def inside(two_releases: tuple[Path, list[str]], cluster_log: Path) -> Iterator[Cluster]:
    if INSIDE not in os.environ:
        pytest.skip("runs inside the namespace, see test_dropped_packets_in_a_namespace")
    with cluster_log.open("ab") as log:
        made = Cluster(two_releases[0], log)
        try:
            made.start()
            yield made
        finally:
            made.stop()


def test_packets_to_one_of_two_replicas_are_dropped(
    inside: Cluster, judge: Judge, ledger: Ledger, load_seconds: float
) -> None:
    """Neither side of the connection is told anything; only keepalive can find out."""
    victim = inside.replicas["ranking_service"][0]

    def iptables(action: str) -> None:
        for direction in ("--dport", "--sport"):
            subprocess.run(
                ["iptables", action, "INPUT", "-p", "tcp", direction, str(victim.port), "-j", "DROP"],
                check=True, timeout=20,
            )  # fmt: skip

    def drop() -> None:
        iptables("-A")
        time.sleep(max(load_seconds / 2, 5))
        iptables("-D")

    load_while(Load(inside.gateway.target, judge, ledger, rate=30, timeout_seconds=1.0), load_seconds + 4, drop)
    assert ledger.violations == []
    assert ledger.codes["OK"] >= 0.97 * len(ledger.calls)
    last = [call for call in ledger.calls if call.finished_at > ledger.calls[-1].finished_at - 0.5]
    assert all(call.response is not None and not call.response.degradation.step for call in last)
