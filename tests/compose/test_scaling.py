"""With several replicas each gets an even share of the calls; changes are noticed within seconds, and by no caller."""

import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.compose.stack import SERVICES, START_SECONDS, ComposeStack, Container, report, wait_until
from tests.reference import DirectRecommender
from tests.traffic import Traffic, assert_unmixed, steady_traffic

# A few requests per second, with enough time for an answer while new replicas start on the same cores.
PAUSE_SECONDS = 0.2
TIMEOUT_SECONDS = 10.0
METHODS = {
    "candidate_service": "RetrieveCandidates",
    "ranking_service": "RankCandidates",
    "gateway": "RecommendItems",
}
STAGES = ("candidate_service", "ranking_service")


def call_counts(containers: list[Container], method: str) -> list[int]:
    return [container.call_count(method) for container in containers]


def each_gets_calls(stack: ComposeStack, service: str) -> bool:
    """Whether every running replica gets a call within 1.5 seconds."""
    containers = stack.containers(service)
    before = call_counts(containers, METHODS[service])
    time.sleep(1.5)
    return all(now > then for now, then in zip(call_counts(containers, METHODS[service]), before, strict=True))


def wait_until_each_gets_calls(stack: ComposeStack, service: str) -> float:
    return wait_until(lambda: each_gets_calls(stack, service), f"every replica of {service} gets calls")


def assert_no_caller_noticed(traffic: Traffic, direct: DirectRecommender) -> None:
    """Every call got the full answer; latency does not matter here."""
    statuses, degraded = traffic.statuses(), [answer for answer in traffic.answers() if answer.degraded]
    report(f"calls by status: {dict(statuses)}, degraded: {len(degraded)}")
    assert_unmixed(traffic, {direct.release_id: direct})


def test_new_replicas_of_both_stages_are_found_and_share_evenly(
    stack: ComposeStack, direct: DirectRecommender, histories: list[list[str]]
) -> None:
    stack.up()
    with steady_traffic(
        stack.target, histories, callers=1, pause_seconds=PAUSE_SECONDS, timeout_seconds=TIMEOUT_SECONDS
    ) as traffic:
        stack.up(candidate_service=3, ranking_service=3)
        for service in STAGES:
            seconds = wait_until_each_gets_calls(stack, service)
            report(f"{service}: all three replicas get calls {seconds:.1f} s after the last one was healthy")
        containers = {service: stack.containers(service) for service in STAGES}
        before = {service: call_counts(containers[service], METHODS[service]) for service in STAGES}
        time.sleep(20)
        for service in STAGES:
            counts = call_counts(containers[service], METHODS[service])
            got = [now - then for now, then in zip(counts, before[service], strict=True)]
            shares = [count / sum(got) for count in got]
            report(f"{service}: {got} calls, shares {[round(share, 3) for share in shares]}")
            assert min(shares) > 0.25, shares
            assert max(shares) < 0.42, shares
    assert_no_caller_noticed(traffic, direct)


@pytest.mark.parametrize("service", STAGES)
def test_a_killed_replica_gets_calls_again_after_its_restart(
    stack: ComposeStack, direct: DirectRecommender, histories: list[list[str]], service: str
) -> None:
    stack.up(candidate_service=3, ranking_service=3)
    victim = stack.containers(service)[0]
    with steady_traffic(
        stack.target, histories, callers=1, pause_seconds=PAUSE_SECONDS, timeout_seconds=TIMEOUT_SECONDS
    ) as traffic:
        wait_until_each_gets_calls(stack, service)
        victim.kill()
        time.sleep(8)
        victim.start()
        wait_until(lambda: victim.healthy, "the replica is healthy again", START_SECONDS)
        seconds = wait_until_each_gets_calls(stack, service)
    report(f"{service}: one of three killed under traffic; gets calls again {seconds:.1f} s after it was healthy")
    assert_no_caller_noticed(traffic, direct)


@pytest.mark.parametrize("service", SERVICES)
def test_a_replica_that_is_stopped_loses_no_call(
    stack: ComposeStack, direct: DirectRecommender, histories: list[list[str]], service: str
) -> None:
    stack.up(**{service: 2})
    leaving = stack.containers(service)[0]
    # The client hides a gateway that stops: another one takes the call.
    with steady_traffic(
        stack.target,
        histories,
        callers=1,
        pause_seconds=PAUSE_SECONDS,
        timeout_seconds=TIMEOUT_SECONDS,
        retries=service == "gateway",
    ) as traffic:
        wait_until_each_gets_calls(stack, service)
        leaving.stop()
        time.sleep(3)
    assert leaving.exit_status == 0
    assert_no_caller_noticed(traffic, direct)


def test_several_gateways_share_the_calls_and_one_may_be_killed(
    stack: ComposeStack, direct: DirectRecommender, histories: list[list[str]]
) -> None:
    stack.up(gateway=3)
    gateways = stack.containers("gateway")
    with steady_traffic(
        stack.target, histories, callers=1, pause_seconds=PAUSE_SECONDS, timeout_seconds=TIMEOUT_SECONDS, retries=True
    ) as traffic:
        wait_until_each_gets_calls(stack, "gateway")
        before = call_counts(gateways, METHODS["gateway"])
        time.sleep(8)
        counts = [now - then for now, then in zip(call_counts(gateways, METHODS["gateway"]), before, strict=True)]
        gateways[0].kill()
        time.sleep(6)
    report(f"gateway: {counts} calls")
    assert min(counts) > 0.25 * sum(counts)
    assert_no_caller_noticed(traffic, direct)


# A back-end service in the same network: it knows one name, and its client finds all gateways behind it.
CALLS_BY_NAME = """
import time
from pathlib import Path
from winnow.client import WinnowClient
with WinnowClient("gateway:50050", timeout_seconds=2) as client:
    while not Path("/tmp/stop").exists():
        assert not client.recommend([]).degraded
        time.sleep(0.2)
"""


def test_a_caller_inside_the_network_finds_new_gateways_by_name(stack: ComposeStack) -> None:
    stack.up(gateway=1)
    caller = stack.containers("ranking_service")[0]
    with ThreadPoolExecutor() as background:
        calls = background.submit(caller.python, CALLS_BY_NAME)
        try:
            stack.up(gateway=2)
            seconds = wait_until_each_gets_calls(stack, "gateway")
        finally:
            caller.execute("touch", "/tmp/stop")  # noqa: S108 - in the container
        calls.result()
    report(f"gateway: the second one gets calls {seconds:.1f} s after it was healthy")
