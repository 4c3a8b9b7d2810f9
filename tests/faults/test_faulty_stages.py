"""Wrong answers of a replica that looks healthy never reach a caller unflagged."""

import asyncio
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults.cluster import HOST, STAGES, Cluster, Replica
from tests.faults.faulty_stage import MODES
from tests.faults.ledger import Judge, Ledger, Load
from winnow.serving.local_stack import free_port

RECONNECT_SECONDS = 20.0


class FaultyReplica(Replica):
    """Runs the misbehaving server in place of a replica."""

    def start(self) -> None:
        import subprocess
        import sys

        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.faults.faulty_stage", self.module, str(self.port), *self.flags],
            stderr=self.log, stdout=self.log,
        )  # fmt: skip


@pytest.fixture(scope="module")
def faulty_cluster(two_releases: tuple[Path, list[str]], cluster_log: Path) -> Iterator[Cluster]:
    """One good replica of each stage, and next to each a place for a faulty one."""
    with cluster_log.open("ab") as log:
        made = Cluster(two_releases[0], log, replica_count=1)
        places = {stage: FaultyReplica(stage, free_port(HOST), [], log) for stage in STAGES}
        try:
            made.replicas = {stage: [made._replica(stage, [])] for stage in STAGES}
            targets = {stage: [made.replicas[stage][0].target, places[stage].target] for stage in STAGES}
            made.stage_targets = targets
            made.replicas["gateway"] = [made._replica("gateway", made._targets())]
            for replica in made.all():
                replica.start()
            for replica in made.all():
                replica.wait_until_healthy()
            for stage in STAGES:
                made.replicas[f"faulty {stage}"] = [places[stage]]
            yield made
        finally:
            made.stop()


@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.parametrize("mode", MODES)
def test_faulty_replica(
    faulty_cluster: Cluster, judge: Judge, ledger: Ledger, load_seconds: float, stage: str, mode: str
) -> None:
    faulty = faulty_cluster.replicas[f"faulty {stage}"][0]
    faulty.flags = [mode]
    faulty.start()
    faulty.wait_until_healthy()
    try:
        load = Load(faulty_cluster.gateway.target, judge, ledger, rate=25, timeout_seconds=1.0)
        # The gateway may wait before it reconnects to a replica that was away.
        give_up = time.monotonic() + RECONNECT_SECONDS
        asyncio.run(load.run(load_seconds / 4, lambda: ledger.degraded_count == 0 and time.monotonic() < give_up))
    finally:
        faulty.kill()
    assert ledger.violations == []
    assert ledger.codes["OK"] >= 0.95 * len(ledger.calls), "a faulty stage degrades answers but does not fail calls"
    assert ledger.full_count > 0, "the good replica was used too"
    assert ledger.degraded_count > 0, "the faulty replica was used"
