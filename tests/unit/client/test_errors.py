"""Every failed call is a WinnowError that says what is wrong, and only what may be retried is retried."""

import grpc
import pytest

from tests.unit.client.fake_gateway import Failure, FakeGateway, invalid_argument
from winnow.client import Violation, WinnowClient, WinnowError

UNAVAILABLE = Failure(grpc.StatusCode.UNAVAILABLE, "not now")


def test_violations_are_named_field_by_field(client: WinnowClient, gateway: FakeGateway) -> None:
    violations = (Violation("history[1].item_id", "is empty"), Violation("item_count", "is -1: it cannot be negative"))
    gateway.failures = [invalid_argument(violations)]
    with pytest.raises(WinnowError) as failure:
        client.recommend(["a", ""])
    assert failure.value.code is grpc.StatusCode.INVALID_ARGUMENT
    assert failure.value.message == "history[1].item_id: is empty (and 1 more)"
    assert failure.value.violations == violations
    assert str(failure.value) == "INVALID_ARGUMENT: history[1].item_id: is empty (and 1 more)"


def test_other_failures_have_no_violations(client: WinnowClient, gateway: FakeGateway) -> None:
    gateway.failures = [Failure(grpc.StatusCode.RESOURCE_EXHAUSTED, "too much")]
    with pytest.raises(WinnowError, match="RESOURCE_EXHAUSTED: too much") as failure:
        client.items(["a"])
    assert failure.value.violations == ()
    assert len(gateway.requests) == 1


def test_unavailable_is_retried(client: WinnowClient, gateway: FakeGateway) -> None:
    gateway.failures = [UNAVAILABLE, UNAVAILABLE]
    client.recommend([])
    assert len(gateway.requests) == 3


def test_what_the_gateway_has_retried_already_is_not(client: WinnowClient, gateway: FakeGateway) -> None:
    pushback = (("grpc-retry-pushback-ms", "-1"),)
    gateway.failures = [Failure(grpc.StatusCode.UNAVAILABLE, "ranking: UNAVAILABLE", pushback)]
    with pytest.raises(WinnowError, match="ranking: UNAVAILABLE"):
        client.recommend([], require_ranked=True)
    assert len(gateway.requests) == 1


def test_retries_can_be_turned_off(gateway: FakeGateway) -> None:
    gateway.failures = [UNAVAILABLE]
    with WinnowClient(gateway.target, timeout_seconds=5, retries=False) as client, pytest.raises(WinnowError):
        client.recommend([])
    assert len(gateway.requests) == 1


def test_a_token_goes_along_with_every_call(gateway: FakeGateway) -> None:
    with WinnowClient(gateway.target, timeout_seconds=5, token="secret") as client:
        client.recommend([])
        client.search("x")
    assert [metadata["authorization"] for metadata in gateway.metadata] == ["Bearer secret"] * 2
