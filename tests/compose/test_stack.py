"""One replica of each service gives the answers of the plain computation through the published port."""

import grpc
import numpy as np
import pytest
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from tests.compose.stack import GATEWAY_PORT, SERVICES, ComposeStack, wait_until
from tests.reference import DirectRecommender
from tests.traffic import steady_traffic
from winnow.client import DegradationStep, WinnowClient, WinnowError
from winnow.rpc.health import healthy

# docker-compose.yml kills a service after 30.
STOP_SECONDS = 25


@pytest.fixture(autouse=True)
def one_of_each(stack: ComposeStack) -> None:
    """Start what an earlier test left stopped."""
    stack.up()


def test_recommendations_equal_the_local_ones(
    stack: ComposeStack, direct: DirectRecommender, histories: list[list[str]]
) -> None:
    with WinnowClient(stack.target, timeout_seconds=5) as client:
        for history in histories:
            answer = client.recommend(history, count=20)
            assert answer.release_id == direct.release_id
            assert not answer.degraded
            expected = direct.recommend(history, 20)
            assert [item.item_id for item in answer.items] == [item_id for item_id, _ in expected]
            np.testing.assert_allclose(
                [item.score for item in answer.items], [score for _, score in expected], atol=1e-5, rtol=0
            )


def test_a_shell_in_the_gateway_gets_titles(stack: ComposeStack, histories: list[list[str]]) -> None:
    (gateway,) = stack.containers("gateway")
    printed = gateway.execute("winnow", "recommend", *histories[0][:3], "--count=3")
    assert "Watched: " in printed
    assert "Degraded" not in printed


def test_health_and_reflection_answer_on_the_published_port(stack: ComposeStack) -> None:
    assert healthy(stack.target)
    request = reflection_pb2.ServerReflectionRequest(list_services="")
    with grpc.insecure_channel(stack.target) as channel:
        (answer,) = reflection_pb2_grpc.ServerReflectionStub(channel).ServerReflectionInfo(iter([request]), timeout=5)
    names = {service.name for service in answer.list_services_response.service}
    assert {"winnow.v1.RecommendationService", "winnow.v1.CatalogueService", "grpc.health.v1.Health"} <= names


@pytest.mark.parametrize("service", SERVICES)
def test_containers_are_confined(stack: ComposeStack, service: str) -> None:
    (container,) = stack.containers(service)
    found = container.inspect()
    host = found["HostConfig"]
    assert found["Config"]["User"] == "10001:10001"
    assert host["ReadonlyRootfs"]
    assert host["CapDrop"] == ["ALL"]
    assert "no-new-privileges:true" in host["SecurityOpt"]
    assert host["RestartPolicy"]["Name"] == "unless-stopped"
    assert host["LogConfig"]["Config"] == {"max-size": "10m", "max-file": "3"}
    assert host["Memory"] > 0
    assert host["NanoCpus"] > 0
    assert host["PidsLimit"] > 0
    (releases,) = [mount for mount in found["Mounts"] if mount["Destination"] == "/releases"]
    assert not releases["RW"]
    published = {port: bindings for port, bindings in found["NetworkSettings"]["Ports"].items() if bindings}
    if service == "gateway":
        assert list(published) == [f"{GATEWAY_PORT}/tcp"]
        assert [binding["HostIp"] for binding in published[f"{GATEWAY_PORT}/tcp"]] == ["127.0.0.1"]
    else:
        assert published == {}
    with pytest.raises(AssertionError, match="Read-only file system"):
        container.execute("touch", "/releases/CURRENT", "/here")


def test_a_stopped_ranking_stage_degrades_answers_until_it_is_back(
    stack: ComposeStack, histories: list[list[str]]
) -> None:
    history = histories[0]
    (ranking,) = stack.containers("ranking_service")
    with WinnowClient(stack.target, timeout_seconds=5) as client:
        full = client.recommend(history)
        candidates = client.retrieve(history, count=20)
        ranking.stop()
        degraded = client.recommend(history)
        assert degraded.degradation.step is DegradationStep.CANDIDATE_ORDER
        assert degraded.degradation.reason.startswith("ranking: ")
        assert degraded.items == candidates.items
        with pytest.raises(WinnowError) as refusal:
            client.recommend(history, require_ranked=True)
        assert refusal.value.code is grpc.StatusCode.UNAVAILABLE
        ranking.start()
        wait_until(lambda: not client.recommend(history).degraded, "answers are ranked again")
        assert client.recommend(history).items == full.items


@pytest.mark.parametrize("service", SERVICES)
def test_sigterm_ends_a_service_in_order(stack: ComposeStack, histories: list[list[str]], service: str) -> None:
    (container,) = stack.containers(service)
    with steady_traffic(stack.target, histories, callers=1, pause_seconds=0.25) as traffic:
        seconds = container.stop()
    assert container.exit_status == 0
    assert seconds < STOP_SECONDS
    # Every accepted call was answered. Only when the single gateway stops are new calls refused.
    allowed = {"OK", "UNAVAILABLE"} if service == "gateway" else {"OK"}
    assert set(traffic.statuses()) <= allowed
    # grpc itself prints the CancelledError of streams (health watches) that end with the server; no other is allowed.
    tracebacks = container.logs().split("Traceback (most recent call last):")[1:]
    assert all("_schedule_rpc_coro" in text and "CancelledError" in text for text in tracebacks)
