"""The part of test_dropped_packets.py that runs inside a network namespace, where all loopback traffic is its own.

`python -m tests.faults.dropped_packets FILE LOAD_SECONDS RELEASES RELEASE_ID ...` pickles the ledger into FILE.
"""

import pickle
import subprocess
import sys
import time
from pathlib import Path

from tests.faults.cluster import Cluster
from tests.faults.conftest import load_while
from tests.faults.ledger import Judge, Ledger, Load
from tests.releases import ITEM_COUNT, item_id


def iptables(action: str, port: int) -> None:
    """Add (-A) or delete (-D) the rules that drop every packet to and from a port."""
    for direction in ("--dport", "--sport"):
        subprocess.run(
            ["iptables", action, "INPUT", "-p", "tcp", direction, str(port), "-j", "DROP"], check=True, timeout=20
        )


def call_while_packets_are_dropped(releases: Path, release_ids: list[str], load_seconds: float, log: Path) -> Ledger:
    """Neither end of the connections is told anything; only keepalive can find out."""
    ledger = Ledger("packets dropped")
    with log.open("ab") as open_log:
        cluster = Cluster(releases, open_log)
        try:
            cluster.start()
            victim = cluster.replicas["ranking_service"][0]

            def drop() -> None:
                iptables("-A", victim.port)
                time.sleep(max(load_seconds / 2, 5))
                iptables("-D", victim.port)

            judge = Judge(releases, release_ids, [item_id(row) for row in range(ITEM_COUNT)])
            load = Load(cluster.gateway.target, judge, ledger, rate=30, timeout_seconds=1.0)
            load_while(load, load_seconds + 4, drop)
        finally:
            cluster.stop()
    return ledger


if __name__ == "__main__":
    file = Path(sys.argv[1])
    found = call_while_packets_are_dropped(
        Path(sys.argv[3]), sys.argv[4:], float(sys.argv[2]), file.with_suffix(".log")
    )
    file.write_bytes(pickle.dumps(found))
