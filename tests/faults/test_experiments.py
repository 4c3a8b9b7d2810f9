"""What happens to an experiment costs the experiment: under load, answers stay full and of one release."""

import itertools
import time
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import grpc
import pytest

from tests.faults.cluster import HOST, Cluster, Replica, StandIn
from tests.faults.conftest import load_while
from tests.faults.ledger import Judge, Ledger, Load, Query, Stub, recommendation_of
from winnow.experiments.figures import read_counts
from winnow.metrics_endpoint import fetch_metrics
from winnow.release.experiment import (
    EXPERIMENT_FILE,
    Arm,
    new_experiment,
    read_experiment,
    remove_experiment,
    write_experiment,
)
from winnow.release.publication import point_current_at
from winnow.serving.local_stack import free_port
from winnow.v1 import status_pb2, status_pb2_grpc

RATE = 20
USERS = itertools.cycle(f"user {number}" for number in range(500))


@pytest.fixture(scope="module")
def users_cluster(
    two_releases: tuple[Path, list[str]], cluster_log: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Cluster]:
    """Two replicas of each stage and a gateway that knows users."""
    store = tmp_path_factory.mktemp("store") / "users.db"
    releases, (current, _) = two_releases
    point_current_at(releases, current)
    with cluster_log.open("ab") as log:
        made = Cluster(releases, log, gateway_flags=[f"--users-store={store}", "--users-timeout-seconds=2"])
        try:
            made.start()
            yield made
        finally:
            made.stop()
            (releases / EXPERIMENT_FILE).unlink(missing_ok=True)


def begin(cluster: Cluster, release_id: str, current: str, *, answers: bool = True) -> None:
    """Begin an experiment: half of the users get the release, if it answers, and it is asked everything as a shadow."""
    shadow = Arm(name="s", release_id=release_id, share=1.0, shadow=True)
    arms = (Arm(name="b", release_id=release_id, share=0.5), shadow) if answers else (shadow,)
    write_experiment(cluster.releases, new_experiment("trial", arms, current, datetime.now(UTC)))


def wait_until_used(gateway: Replica) -> None:
    give_up = time.monotonic() + 30
    with grpc.insecure_channel(gateway.target) as channel:
        stub = status_pb2_grpc.StatusServiceStub(channel)
        while True:
            experiment = stub.GetStatus(status_pb2.GetStatusRequest(), timeout=5).experiment
            if experiment.arms and not any(arm.waits_for for arm in experiment.arms):
                return
            assert time.monotonic() < give_up
            time.sleep(0.1)


def ask(stub: Stub, query: Query, timeout_seconds: float) -> Any:
    request = recommendation_of(query)
    request.user_id = next(USERS)
    return stub.RecommendItems(request, timeout=timeout_seconds)


def check(ledger: Ledger, current: str, other: str) -> Counter[str]:
    """Answers are full and of the release of the arm that they name; return how many name which."""
    assert ledger.violations == []
    assert ledger.full_count >= 0.97 * len(ledger.calls)
    arms: Counter[str] = Counter()
    for call in ledger.calls:
        if call.response is None:
            continue
        arms[call.response.experiment_arm] += 1
        assert call.response.release_id == (other if call.response.experiment_arm == "b" else current)
    ledger.notes.append(", ".join(f"{count} {arm or 'of no arm'}" for arm, count in sorted(arms.items())))
    return arms


def test_an_experiment_that_starts_ends_and_breaks(
    users_cluster: Cluster, two_releases: tuple[Path, list[str]], judge: Judge, ledger: Ledger, load_seconds: float
) -> None:
    releases, (current, other) = two_releases

    def fault() -> None:
        end = time.monotonic() + load_seconds
        while time.monotonic() < end:
            begin(users_cluster, other, current)
            wait_until_used(users_cluster.gateway)
            time.sleep(0.5)
            (releases / EXPERIMENT_FILE).write_text("{")
            time.sleep(0.5)
            remove_experiment(releases)
            time.sleep(0.5)

    load = Load(users_cluster.gateway.target, judge, ledger, rate=RATE, ask=ask)
    load_while(load, load_seconds + 2, fault)
    assert check(ledger, current, other)["b"] > 0


def test_a_replica_that_comes_back_without_the_release_of_an_experiment(
    users_cluster: Cluster,
    two_releases: tuple[Path, list[str]],
    judge: Judge,
    ledger: Ledger,
    load_seconds: float,
    tmp_path: Path,
) -> None:
    releases, (current, other) = two_releases
    begin(users_cluster, other, current)
    wait_until_used(users_cluster.gateway)
    experiment = read_experiment(releases)
    assert experiment is not None
    (tmp_path / current).symlink_to(releases / current)
    point_current_at(tmp_path, current)
    write_experiment(tmp_path, experiment)
    replica = users_cluster.replicas["ranking_service"][0]
    flags = [f"--releases={tmp_path}" if flag.startswith("--releases=") else flag for flag in replica.flags]
    lacking = Replica(replica.module, replica.port, flags, replica.log)

    def fault() -> None:
        replica.kill()
        lacking.start()
        lacking.wait_until_healthy()
        time.sleep(load_seconds)

    try:
        load_while(Load(users_cluster.gateway.target, judge, ledger, rate=RATE, ask=ask), load_seconds + 2, fault)
        arms = check(ledger, current, other)
        assert arms["b"] > 0, "until the replica came back"
        assert arms[""] > 0, "after that"
    finally:
        lacking.kill()
        remove_experiment(releases)
        replica.start()
        replica.wait_until_healthy()


def test_a_shadow_that_hangs(
    users_cluster: Cluster, two_releases: tuple[Path, list[str]], judge: Judge, ledger: Ledger, load_seconds: float
) -> None:
    releases, (current, other) = two_releases
    good = users_cluster.replicas["ranking_service"][0]
    hanging = StandIn("tests.faults.hanging_release", free_port(HOST), [good.target, other], good.log)
    metrics_port = free_port(HOST)
    flags = [flag for flag in users_cluster.gateway.flags if not flag.startswith("--ranking-target")]
    flags += [f"--ranking-target=ipv4:{hanging.target}", f"--metrics-port={metrics_port}"]
    gateway = Replica("gateway", free_port(HOST), flags, good.log)
    try:
        for replica in (hanging, gateway):
            replica.start()
            replica.wait_until_healthy()
        begin(users_cluster, other, current, answers=False)
        wait_until_used(gateway)
        load_while(Load(gateway.target, judge, ledger, rate=RATE, ask=ask), load_seconds)
        assert set(check(ledger, current, other)) == {"current"}
        outcomes = read_counts("trial", [fetch_metrics(f"http://{HOST}:{metrics_port}/metrics")]).arms["s"]
        assert outcomes.shadow_requests["compared"] == 0
        given_up = sum(outcomes.shadow_requests.values())
        assert given_up > 0
        ledger.notes.append(f"{given_up:.0f} requests of the shadow given up")
    finally:
        remove_experiment(releases)
        for replica in (gateway, hanging):
            replica.kill()
