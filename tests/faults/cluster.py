"""Replicas of each stage and a gateway as real processes on loopback, which tests kill, stop and restart."""

import signal
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from tests.service.process import wait_until_healthy
from winnow.serving.local_stack import free_port

HOST = "127.0.0.1"
STAGES = ("candidate_service", "ranking_service")
# Many swaps fit into a short test, and a busy test machine can meet the deadline.
FLAGS = (
    "--release-poll-seconds=0.25",
    "--release-retire-seconds=2",
    "--drain-seconds=1",
    "--default-timeout-seconds=2",
)


@dataclass
class Replica:
    """One process. It keeps its port when it restarts."""

    module: str
    port: int
    flags: list[str]
    log: IO[bytes]
    process: "subprocess.Popen[bytes] | None" = None

    @property
    def target(self) -> str:
        return f"{HOST}:{self.port}"

    def start(self) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", self.module, *self.arguments()], stderr=self.log, stdout=self.log
        )

    def arguments(self) -> list[str]:
        return [f"--port={self.port}", *self.flags]

    def wait_until_healthy(self, timeout_seconds: float = 90) -> None:
        assert self.process is not None
        wait_until_healthy(self.process, self.target, timeout_seconds, hint=f"({self.module}: see {self.log.name})")

    def signal(self, number: signal.Signals) -> None:
        assert self.process is not None
        self.process.send_signal(number)

    def kill(self) -> None:
        self.signal(signal.SIGKILL)
        self.wait()

    def wait(self, timeout_seconds: float = 40) -> int:
        assert self.process is not None
        return self.process.wait(timeout_seconds)

    def rss_bytes(self) -> int:
        assert self.process is not None
        statm = Path(f"/proc/{self.process.pid}/statm").read_text().split()
        return int(statm[1]) * 4096

    def peak_rss_bytes(self) -> int:
        """The peak memory of the process."""
        assert self.process is not None
        for line in Path(f"/proc/{self.process.pid}/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
        raise AssertionError("no VmHWM")


class StandIn(Replica):
    """A server of this suite in place of a service or before one; its port is the first argument."""

    def arguments(self) -> list[str]:
        return [str(self.port), *self.flags]


@dataclass
class Cluster:
    """The replicas of each module."""

    releases: Path
    log: IO[bytes]
    replica_count: int = 2
    gateway_flags: list[str] = field(default_factory=list)
    stage_targets: dict[str, list[str]] = field(default_factory=dict)
    """Addresses that the gateway uses instead of the replicas', such as those of proxies."""
    replicas: dict[str, list[Replica]] = field(default_factory=dict)
    flags: Sequence[str] = FLAGS
    """Of all services."""

    def start(self) -> None:
        self.add_stages()
        self.add_gateway()
        self.start_all()

    def add_stages(self) -> None:
        for stage in STAGES:
            self.replicas[stage] = [self._replica(stage, ["--stuck-seconds=5"]) for _ in range(self.replica_count)]

    def add_gateway(self) -> None:
        """Add a gateway in front of `stage_targets`, or else of the replicas that there are."""
        self.replicas["gateway"] = [self._replica("gateway", [*self._targets(), *self.gateway_flags])]

    def start_all(self) -> None:
        # The gateway last: it then meets all replicas at once, and no answer of the load is degraded for their start.
        for started_together in ([replica for stage in STAGES for replica in self.replicas[stage]], [self.gateway]):
            for replica in started_together:
                replica.start()
            for replica in started_together:
                replica.wait_until_healthy()

    def all(self) -> list[Replica]:
        return [replica for replicas in self.replicas.values() for replica in replicas]

    @property
    def gateway(self) -> Replica:
        return self.replicas["gateway"][0]

    def stop(self) -> None:
        for replica in self.all():
            if replica.process is not None and replica.process.poll() is None:
                replica.signal(signal.SIGCONT)
                replica.kill()

    def _replica(self, module: str, flags: list[str]) -> Replica:
        return Replica(module, free_port(HOST), [f"--releases={self.releases}", *self.flags, *flags], self.log)

    def _targets(self) -> list[str]:
        targets = {
            stage: self.stage_targets.get(stage, [replica.target for replica in self.replicas[stage]])
            for stage in STAGES
        }
        return [
            f"--candidate-target=ipv4:{','.join(targets['candidate_service'])}",
            f"--ranking-target=ipv4:{','.join(targets['ranking_service'])}",
        ]
