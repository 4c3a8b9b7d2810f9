"""Bearer tokens at the edge of the gateway."""

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import grpc
import pytest

from tests.service.process import RunningService, running, start
from winnow.client import Event, WinnowClient, WinnowError


@pytest.fixture(scope="module")
def tokens(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("tokens") / "tokens"


@pytest.fixture(scope="module")
def gateway(releases: Path, tokens: Path) -> Iterator[RunningService]:
    tokens.write_text("first-token\nsecond-token\nshop-token recommend\ncollector-token write-events\n")
    with running("gateway", releases, f"--tokens-file={tokens}") as service:
        yield service


def client_of(gateway: RunningService, token: str | None) -> WinnowClient:
    return WinnowClient(gateway.target, timeout_seconds=5, token=token, retries=False)


def let_in(gateway: RunningService, token: str | None) -> bool:
    with client_of(gateway, token) as client:
        try:
            client.recommend([])
        except WinnowError as error:
            assert error.code is grpc.StatusCode.UNAUTHENTICATED, error
            return False
    return True


def eventually_let_in(gateway: RunningService, token: str, *, expected: bool) -> None:
    give_up = time.monotonic() + 10
    while let_in(gateway, token) is not expected:
        assert time.monotonic() < give_up
        time.sleep(0.2)


def calls_for_users(client: WinnowClient) -> list[Callable[[], object]]:
    return [
        lambda: client.write_events([Event(user_id="ann", item_id="x")]),
        lambda: client.history("ann"),
        lambda: client.delete_user("ann"),
    ]


def test_events_are_neither_written_nor_read_nor_deleted_without_a_token(gateway: RunningService) -> None:
    for token, code in (
        (None, grpc.StatusCode.UNAUTHENTICATED),
        ("wrong", grpc.StatusCode.UNAUTHENTICATED),
        # This gateway has no store.
        ("first-token", grpc.StatusCode.FAILED_PRECONDITION),
    ):
        with client_of(gateway, token) as client:
            for call in calls_for_users(client):
                with pytest.raises(WinnowError) as raised:
                    call()
                assert raised.value.code is code


def test_a_token_permits_what_its_line_says(gateway: RunningService) -> None:
    assert let_in(gateway, "shop-token")
    # This gateway has no store: FAILED_PRECONDITION is beyond the check of tokens.
    denied, passed = grpc.StatusCode.PERMISSION_DENIED, grpc.StatusCode.FAILED_PRECONDITION
    for token, codes in (("shop-token", [denied] * 3), ("collector-token", [passed, denied, denied])):
        with client_of(gateway, token) as client:
            for call, code in zip(calls_for_users(client), codes, strict=True):
                with pytest.raises(WinnowError) as raised:
                    call()
                assert raised.value.code is code
    with client_of(gateway, "collector-token") as client, pytest.raises(WinnowError, match="lacks recommend"):
        client.recommend([])


def test_every_token_of_the_file_is_valid(gateway: RunningService) -> None:
    assert let_in(gateway, "first-token")
    assert let_in(gateway, "second-token")


@pytest.mark.parametrize(("token", "message"), [(None, "is needed"), ("wrong", "is not valid"), ("", "is not valid")])
def test_without_a_valid_token_every_call_is_unauthenticated(
    gateway: RunningService, token: str | None, message: str
) -> None:
    with client_of(gateway, token) as client:
        for call in (lambda: client.recommend([]), lambda: client.search("x"), lambda: client.items(["x"])):
            with pytest.raises(WinnowError, match=message) as failure:
                call()
            assert failure.value.code is grpc.StatusCode.UNAUTHENTICATED


def test_a_replaced_token_works_and_the_old_one_does_not(gateway: RunningService, tokens: Path) -> None:
    before = tokens.read_text()
    try:
        tokens.write_text("third-token\n")
        eventually_let_in(gateway, "third-token", expected=True)
        assert not let_in(gateway, "first-token")
    finally:
        tokens.write_text(before)
        eventually_let_in(gateway, "first-token", expected=True)


def test_an_emptied_tokens_file_lets_nobody_in(gateway: RunningService, tokens: Path) -> None:
    before = tokens.read_text()
    try:
        assert let_in(gateway, "first-token")
        tokens.write_text("")
        eventually_let_in(gateway, "first-token", expected=False)
    finally:
        tokens.write_text(before)
        eventually_let_in(gateway, "first-token", expected=True)


def test_secrets_are_not_logged(releases: Path, tmp_path: Path) -> None:
    tokens = tmp_path / "tokens"
    tokens.write_text("first-token\n")
    with running("gateway", releases, f"--tokens-file={tokens}", "--log-level=debug") as service:
        assert let_in(service, "first-token")
        assert not let_in(service, "no-such-token")
        service.process.terminate()
        _, log = service.process.communicate(timeout=20)
    assert "serving" in log
    assert "first-token" not in log
    assert "no-such-token" not in log


def test_a_tokens_file_that_is_not_there_is_named(releases: Path) -> None:
    process = start("gateway", f"--releases={releases}", "--port=0", "--tokens-file=/no/such/file")
    _, log = process.communicate(timeout=30)
    assert process.returncode == 1, log
    assert "tokens file /no/such/file cannot be read" in log
