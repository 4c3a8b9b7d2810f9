"""Swaps under traffic cause no error and no mixed answer; a bad release is refused and the old one stays."""

import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import grpc
import pytest
import torch

from tests.conftest import local_stack
from tests.end_to_end.test_stack import random_history
from tests.reference import DirectRecommender
from tests.releases import reseal, write_random_release
from tests.traffic import assert_unmixed, steady_traffic
from winnow.client import WinnowClient
from winnow.release.publication import point_current_at
from winnow.serving.local_stack import LocalStack
from winnow.v1 import status_pb2, status_pb2_grpc

SERVICES = ("candidate_service", "ranking_service", "gateway")
HISTORIES = [random_history(seed) for seed in range(12)]
FAST_SWAPS = ["--release-poll-seconds=0.1", "--release-retire-seconds=1"]


@dataclass(frozen=True)
class SwapStack:
    stack: LocalStack
    releases: Path
    first_release: str

    def status(self, service: str) -> status_pb2.GetStatusResponse:
        with grpc.insecure_channel(self.stack.address(service)) as channel:
            return status_pb2_grpc.StatusServiceStub(channel).GetStatus(status_pb2.GetStatusRequest(), timeout=5)

    def states(self, service: str) -> dict[str, str]:
        return {
            release.release_id: status_pb2.ReleaseState.Name(release.state).removeprefix("RELEASE_STATE_")
            for release in self.status(service).releases
        }

    def wait_until_all_use(self, release_id: str) -> None:
        eventually(lambda: all(self.status(service).release_id == release_id for service in SERVICES))


def eventually(condition: Callable[[], bool], timeout_seconds: float = 30) -> None:
    give_up = time.monotonic() + timeout_seconds
    while not condition():
        assert time.monotonic() < give_up
        time.sleep(0.05)


@pytest.fixture(scope="module")
def shared_stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SwapStack]:
    releases = tmp_path_factory.mktemp("swapped-releases")
    first = write_random_release(releases, seed=1)
    with local_stack(releases, all=FAST_SWAPS) as stack:
        yield SwapStack(stack, releases, first)


@pytest.fixture
def swap_stack(shared_stack: SwapStack) -> SwapStack:
    """All services use the first release, whatever the test before has left."""
    point_current_at(shared_stack.releases, shared_stack.first_release)
    shared_stack.wait_until_all_use(shared_stack.first_release)
    return shared_stack


@pytest.mark.parametrize("together", [1, 40])
def test_swaps_and_roll_backs_under_traffic_show_no_error_and_no_mixed_answer(
    swap_stack: SwapStack, together: int
) -> None:
    with steady_traffic(swap_stack.stack.gateway_target, HISTORIES, together=together, timeout_seconds=5) as traffic:
        second = write_random_release(swap_stack.releases, seed=2)
        traffic.wait_for_release(second)
        third = write_random_release(swap_stack.releases, seed=3)
        traffic.wait_for_release(third)
        point_current_at(swap_stack.releases, second)
        traffic.wait_for_release(second)
    releases = {
        release_id: DirectRecommender(swap_stack.releases, release_id)
        for release_id in (swap_stack.first_release, second, third)
    }
    assert {answer.release_id for answer in traffic.answers()} >= {second, third}
    assert_unmixed(traffic, releases)


def test_the_old_release_is_dropped_when_nobody_uses_it(swap_stack: SwapStack) -> None:
    second = write_random_release(swap_stack.releases, seed=2)
    swap_stack.wait_until_all_use(second)
    for service in SERVICES:
        eventually(lambda service=service: swap_stack.first_release not in swap_stack.states(service))  # type: ignore[misc]
        assert swap_stack.states(service)[second] == "CURRENT"


def damaged(elsewhere: Path, damage: str) -> str:
    """Make a release that is bad in one way and return its id. All but the truncated one have the right hashes."""
    release = elsewhere / write_random_release(elsewhere, seed=9)
    weights = release / "ranking_network.safetensors"
    if damage == "truncated":
        weights.write_bytes(weights.read_bytes()[:-1])
        return release.name
    if damage == "pickle":
        torch.save({"weight": torch.zeros(3)}, weights)
    elif damage == "golden":
        other = elsewhere / write_random_release(elsewhere, seed=10)
        shutil.copy(other / "golden.safetensors", release)
    return reseal(release).name


@pytest.mark.parametrize(
    ("damage", "state", "refusing"),
    [
        ("absent", "LOADING", SERVICES),
        ("truncated", "LOADING", SERVICES),
        ("pickle", "REFUSED", ["ranking_service"]),
        ("golden", "REFUSED", ["candidate_service", "ranking_service"]),
    ],
)
def test_a_bad_release_is_not_used_and_the_old_one_keeps_serving(
    swap_stack: SwapStack, damage: str, state: str, refusing: Sequence[str]
) -> None:
    """What may still be on its way is awaited, what is wrong is refused."""
    bad = "20300101T000000Z-0123456789ab"
    if damage != "absent":
        elsewhere = swap_stack.releases / "elsewhere"
        bad = damaged(elsewhere, damage)
        shutil.move(elsewhere / bad, swap_stack.releases / bad)
    with steady_traffic(swap_stack.stack.gateway_target, HISTORIES) as traffic:
        point_current_at(swap_stack.releases, bad)
        for service in refusing:
            eventually(lambda service=service: swap_stack.states(service).get(bad) == state)  # type: ignore[misc]
        time.sleep(0.5)
    assert swap_stack.status("gateway").release_id == swap_stack.first_release
    for service in refusing:
        (reason,) = [release.reason for release in swap_stack.status(service).releases if release.release_id == bad]
        assert reason
    first = swap_stack.first_release
    assert_unmixed(traffic, {first: DirectRecommender(swap_stack.releases, first)})


def test_a_gateway_waits_for_both_stages(swap_stack: SwapStack) -> None:
    """While a stage cannot load the new release, the gateway stays with the old one."""
    stack = swap_stack.stack
    stack.processes["ranking_service"].send_signal(19)  # SIGSTOP
    try:
        second = write_random_release(swap_stack.releases, seed=2)
        eventually(lambda: swap_stack.states("gateway").get(second) == "WAITING")
        time.sleep(1)
        assert swap_stack.status("gateway").release_id == swap_stack.first_release
    finally:
        stack.processes["ranking_service"].send_signal(18)  # SIGCONT
    swap_stack.wait_until_all_use(second)
    with WinnowClient(stack.gateway_target, timeout_seconds=5) as client:
        assert client.recommend(HISTORIES[0]).release_id == second
