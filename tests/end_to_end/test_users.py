"""Events in, recommendations by user id out: through all services, with the client that callers use."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from tests.conftest import stack_settings
from tests.releases import item_id
from winnow.client import Event, EventKind, Watch, WinnowClient
from winnow.serving.local_stack import LocalStack

START = 1_700_000_000


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("store") / "users.db"


@pytest.fixture(scope="module")
def stack(releases: Path, store: Path) -> Iterator[LocalStack]:
    settings = stack_settings(releases)
    flags = [f"--users-store={store}", "--users-timeout-seconds=3"]
    with LocalStack(replace(settings, flags={**settings.flags, "gateway": flags})) as running:
        yield running


@pytest.fixture(scope="module")
def client(stack: LocalStack) -> Iterator[WinnowClient]:
    with WinnowClient(stack.gateway_target, timeout_seconds=5) as opened:
        yield opened


def watches(user_id: str, *rows: int) -> list[Event]:
    return [
        Event(user_id=user_id, item_id=item_id(row), time=START + at, weight=float(at + 1))
        for at, row in enumerate(rows)
    ]


def as_history(events: list[Event]) -> list[Watch]:
    return [Watch(event.item_id, event.weight, event.time) for event in events]


def test_a_user_id_stands_for_the_history(client: WinnowClient) -> None:
    events = watches("ann", 7, 3, 12, 40)
    client.write_events(events)
    by_id, by_history = client.recommend(user_id="ann"), client.recommend(as_history(events))
    assert by_id.items == by_history.items
    assert not by_id.degraded
    assert by_id.timing.users_milliseconds is not None
    assert by_history.timing.users_milliseconds is None
