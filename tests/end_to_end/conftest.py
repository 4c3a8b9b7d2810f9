"""What the tests of several files ask the services with: those of the fixture `stack`, which a file may override."""

from collections.abc import Iterator

import grpc
import pytest

from winnow.client import WinnowClient
from winnow.serving.local_stack import LocalStack
from winnow.v1 import recommendation_pb2_grpc


@pytest.fixture(scope="module")
def client(stack: LocalStack) -> Iterator[WinnowClient]:
    with WinnowClient(stack.gateway_target, timeout_seconds=10) as opened:
        yield opened


@pytest.fixture(scope="module")
def channel(stack: LocalStack) -> Iterator[grpc.Channel]:
    with grpc.insecure_channel(stack.gateway_target) as opened:
        yield opened


@pytest.fixture(scope="module")
def stub(channel: grpc.Channel) -> recommendation_pb2_grpc.RecommendationServiceStub:
    return recommendation_pb2_grpc.RecommendationServiceStub(channel)
