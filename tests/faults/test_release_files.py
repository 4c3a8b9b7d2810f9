"""What happens to the files of releases while they are served: careless copies, and replicas that are left behind."""

import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import grpc
import pytest

from tests.faults.cluster import Cluster
from tests.faults.conftest import load_while
from tests.faults.ledger import Judge, Ledger, Load
from winnow.release.publication import point_current_at
from winnow.v1 import status_pb2, status_pb2_grpc

RATE = 40.0


class OwnDirectories:
    """A cluster in which one of the three ranking replicas has a releases directory of its own."""

    def __init__(self, cluster: Cluster, shared: Path, apart: Path) -> None:
        self.cluster = cluster
        self.shared = shared
        self.apart = apart

    @property
    def lone_replica(self) -> str:
        return f"ipv4:{self.cluster.replicas['ranking_service'][2].target}"

    def releases_of_gateway(self) -> dict[str, status_pb2.ReleaseStatus]:
        with grpc.insecure_channel(self.cluster.gateway.target) as channel:
            status = status_pb2_grpc.StatusServiceStub(channel).GetStatus(status_pb2.GetStatusRequest(), timeout=5)
        return {release.release_id: release for release in status.releases}

    def is_current(self, release_id: str) -> bool:
        release = self.releases_of_gateway().get(release_id)
        return release is not None and release.state == status_pb2.RELEASE_STATE_CURRENT


@pytest.fixture
def apart(two_releases: tuple[Path, list[str]], cluster_log: Path, tmp_path: Path) -> Iterator[OwnDirectories]:
    """Both directories hold the first release only."""
    releases, (first, _) = two_releases
    for name in ("shared", "apart"):
        shutil.copytree(releases / first, tmp_path / name / first)
        point_current_at(tmp_path / name, first)
    with cluster_log.open("ab") as log:
        cluster = Cluster(tmp_path / "shared", log, replica_count=3)
        try:
            cluster.add_stages()
            cluster.replicas["ranking_service"][2].flags[0] = f"--releases={tmp_path / 'apart'}"
            cluster.add_gateway()
            cluster.start_all()
            yield OwnDirectories(cluster, tmp_path / "shared", tmp_path / "apart")
        finally:
            cluster.stop()


def until(condition: Callable[[], bool], timeout_seconds: float = 40) -> None:
    give_up = time.monotonic() + timeout_seconds
    while not condition():
        assert time.monotonic() < give_up
        time.sleep(0.05)


def test_files_changed_in_place(apart: OwnDirectories, judge: Judge, ledger: Ledger, load_seconds: float) -> None:
    """Truncated, then overwritten with rubbish: what is served has been read, whatever becomes of the files."""

    def scribble() -> None:
        files = list(apart.shared.glob("*/*"))
        for path in files:
            size_bytes = path.stat().st_size
            with path.open("r+b") as file:
                file.truncate(0)
            time.sleep(load_seconds / 4 / len(files))
            path.write_bytes(b"\xff" * size_bytes)

    load_while(Load(apart.cluster.gateway.target, judge, ledger, rate=RATE), load_seconds, scribble)
    assert all(replica.process is not None and replica.process.poll() is None for replica in apart.cluster.all())
    assert ledger.violations == []
    assert ledger.full_count == len(ledger.calls)


def test_a_release_whose_current_pointer_comes_first(
    apart: OwnDirectories, judge: Judge, ledger: Ledger, load_seconds: float, two_releases: tuple[Path, list[str]]
) -> None:
    releases, (_, second) = two_releases

    def copy() -> None:
        for directory in (apart.shared, apart.apart):
            point_current_at(directory, second)
        time.sleep(1)
        for directory in (apart.shared, apart.apart):
            (directory / second).mkdir()
            for path in sorted((releases / second).iterdir()):
                time.sleep(0.3)
                data = path.read_bytes()
                with (directory / second / path.name).open("wb", buffering=0) as file:
                    file.write(data[: len(data) // 2])
                    time.sleep(0.3)
                    file.write(data[len(data) // 2 :])
        until(lambda: apart.is_current(second))

    load_while(Load(apart.cluster.gateway.target, judge, ledger, rate=RATE), load_seconds, copy)
    assert ledger.violations == []
    assert ledger.full_count == len(ledger.calls)


def test_a_replica_that_never_gets_the_new_release(
    apart: OwnDirectories, judge: Judge, ledger: Ledger, load_seconds: float, two_releases: tuple[Path, list[str]]
) -> None:
    """The others are not held up by it for long, the status says by whom, and no answer is less for it."""
    releases, (_, second) = two_releases

    def release() -> None:
        shutil.copytree(releases / second, apart.shared / second)
        point_current_at(apart.shared, second)
        # Before that it may say so of the candidate replicas, which take their time to load.
        reason = f"ranking: not held by {apart.lone_replica}"
        until(lambda: second in apart.releases_of_gateway() and apart.releases_of_gateway()[second].reason == reason)
        until(lambda: apart.is_current(second))
        time.sleep(load_seconds / 2)

    load_while(Load(apart.cluster.gateway.target, judge, ledger, rate=RATE), load_seconds, release)
    assert ledger.violations == []
    assert ledger.full_count >= 0.99 * len(ledger.calls)
    assert ledger.codes["OK"] == len(ledger.calls)
