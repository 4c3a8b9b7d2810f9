from collections.abc import Iterator

import pytest

from tests.unit.client.fake_gateway import FakeGateway, fake_gateway
from winnow.client import WinnowClient


@pytest.fixture
def gateway() -> Iterator[FakeGateway]:
    with fake_gateway() as running:
        yield running


@pytest.fixture
def client(gateway: FakeGateway) -> Iterator[WinnowClient]:
    with WinnowClient(gateway.target, timeout_seconds=5) as opened:
        yield opened
