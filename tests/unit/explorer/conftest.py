from collections.abc import Iterator

import pytest

from tests.unit.client.fake_gateway import FakeGateway, fake_gateway
from winnow.explorer.settings import ExplorerSettings


@pytest.fixture
def gateway() -> Iterator[FakeGateway]:
    with fake_gateway() as running:
        yield running


@pytest.fixture
def settings(gateway: FakeGateway) -> ExplorerSettings:
    return ExplorerSettings(targets=(gateway.target,), timeout_seconds=5)
