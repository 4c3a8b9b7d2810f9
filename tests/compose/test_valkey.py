"""Histories in the Valkey server of the profile `valkey`."""

import os
import subprocess
from collections.abc import Iterator

import pytest

from tests.compose.stack import START_SECONDS, ComposeStack, wait_until
from winnow.client import Event, WinnowClient

IMAGE = os.environ.get("WINNOW_VALKEY_IMAGE", "valkey/valkey:9.1-alpine")
STORE = "redis://valkey:6379/0"


@pytest.fixture
def stack_with_users(stack: ComposeStack) -> Iterator[ComposeStack]:
    pulled = subprocess.run(["docker", "pull", "--quiet", IMAGE], capture_output=True, check=False, timeout=300)
    present = subprocess.run(["docker", "image", "inspect", IMAGE], capture_output=True, check=False)
    if pulled.returncode and present.returncode:
        pytest.skip(f"no registry has {IMAGE}: set WINNOW_VALKEY_IMAGE")
    stack.up()
    stack.compose("--profile", "valkey", "up", "--detach", "--no-build", WINNOW_USERS_STORE=STORE)
    try:
        services = ("valkey", "gateway")
        wait_until(lambda: all(stack.containers(service)[0].healthy for service in services), "healthy", START_SECONDS)
        yield stack
    finally:
        stack.compose("--profile", "valkey", "rm", "--force", "--stop", "valkey")
        stack.compose("up", "--detach", "--no-build", "gateway")


def test_histories_survive_a_kill_of_the_server(stack_with_users: ComposeStack, histories: list[list[str]]) -> None:
    events = [Event(user_id="ann", item_id=item, time=1_700_000_000 + at) for at, item in enumerate(histories[0])]
    [server] = stack_with_users.containers("valkey")
    with WinnowClient(stack_with_users.target, timeout_seconds=5) as client:
        client.write_events(events)
        expected = client.recommend(histories[0])
        server.kill()
        assert client.recommend(user_id="ann").degraded
        server.start()
        wait_until(lambda: server.healthy, "the server is healthy", START_SECONDS)
        assert client.history("ann") == events
        found = client.recommend(user_id="ann")
        assert [item.item_id for item in found.items] == [item.item_id for item in expected.items]
