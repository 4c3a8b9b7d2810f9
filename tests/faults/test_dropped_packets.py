"""Packets to one replica vanish: a real black hole, made by the kernel in a network namespace of its own.

Needs root, `unshare`, `ip` and `iptables`. Without them the test is skipped, and its row in the table says so.
"""

import os
import pickle
import shutil
import subprocess
import sys
from pathlib import Path

from tests.faults.conftest import not_run
from tests.faults.ledger import Ledger

TOOLS = ("unshare", "ip", "iptables")
IN_NAMESPACE = ("unshare", "--net", "sh", "-c", 'ip link set lo up && exec "$@"', "sh")


def why_packets_cannot_be_dropped() -> str:
    missing = [tool for tool in TOOLS if shutil.which(tool) is None]
    if missing:
        return f"{', '.join(missing)} is missing"
    if os.geteuid() != 0:
        return "only root can drop packets"
    rule = ["iptables", "-A", "INPUT", "-p", "tcp", "--dport", "9", "-j", "DROP"]
    tried = subprocess.run([*IN_NAMESPACE, *rule], capture_output=True, text=True, timeout=60, check=False)
    return tried.stderr.strip() if tried.returncode else ""


def test_packets_to_one_of_two_replicas_dropped(
    ledger: Ledger, load_seconds: float, two_releases: tuple[Path, list[str]], tmp_path: Path
) -> None:
    reason = why_packets_cannot_be_dropped()
    if reason:
        not_run(ledger, reason)
    releases, release_ids = two_releases
    file = tmp_path / "ledger"
    command = [sys.executable, "-m", "tests.faults.dropped_packets", str(file), str(load_seconds), str(releases)]
    result = subprocess.run(
        [*IN_NAMESPACE, *command, *release_ids], cwd=Path(__file__).parents[2], capture_output=True, text=True,
        timeout=600, check=False,
    )  # fmt: skip
    assert result.returncode == 0, result.stdout + result.stderr
    found: Ledger = pickle.loads(file.read_bytes())  # noqa: S301 - written by the process above
    ledger.calls, ledger.violations = found.calls, found.violations
    assert ledger.violations == []
    assert ledger.codes["OK"] >= 0.97 * len(ledger.calls)
    assert ledger.all_full_of_late()
