"""Events in, recommendations by user id out: through all services, with the clients that callers use."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import grpc
import pytest
from typer.testing import CliRunner

from tests.conftest import local_stack
from tests.releases import item_id
from winnow.cli import app
from winnow.client import (
    AbsenceReason,
    AsyncWinnowClient,
    Degradation,
    DegradationStep,
    Event,
    EventKind,
    RankedItems,
    RecommendationRequest,
    Recommendations,
    RetrievedItems,
    Watch,
    WinnowClient,
    WinnowError,
)
from winnow.serving.local_stack import LocalStack
from winnow.v1 import users_pb2, users_pb2_grpc

START = 1_700_000_000
HISTORY_MISSING = "users: UNAVAILABLE"


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("store") / "users.db"


@pytest.fixture(scope="module")
def stack_with_users(releases: Path, store: Path) -> Iterator[LocalStack]:
    flags = [f"--users-store={store}", "--users-timeout-seconds=5", "--max-history-items=50"]
    with local_stack(releases, gateway=flags) as running:
        yield running


@pytest.fixture(scope="module")
def client(stack_with_users: LocalStack) -> Iterator[WinnowClient]:
    with WinnowClient(stack_with_users.gateway_target, timeout_seconds=10) as opened:
        yield opened


def watches(user_id: str, *rows: int) -> list[Event]:
    return [
        Event(user_id=user_id, item_id=item_id(row), time=START + at, weight=float(at + 1))
        for at, row in enumerate(rows)
    ]


def as_history(events: list[Event]) -> list[Watch]:
    return [Watch(event.item_id, event.weight, event.time) for event in events]


def assert_same_items(
    answer: Recommendations | RankedItems | RetrievedItems, expected: Recommendations | RankedItems | RetrievedItems
) -> None:
    """The last bits of a score depend on the batch."""
    assert [item.item_id for item in answer.items] == [item.item_id for item in expected.items]
    assert [item.score for item in answer.items] == pytest.approx(
        [item.score for item in expected.items], rel=1e-4, abs=1e-5
    )


@contextmanager
def store_away(store: Path) -> Iterator[None]:
    elsewhere = store.with_suffix(".away")
    store.rename(elsewhere)
    try:
        yield
    finally:
        elsewhere.rename(store)


def test_a_user_id_stands_for_the_history(client: WinnowClient) -> None:
    events = watches("ann", 7, 3, 12, 40)
    client.write_events(reversed(events))
    by_id, by_history = client.recommend(user_id="ann"), client.recommend(as_history(events))
    assert_same_items(by_id, by_history)
    assert not by_id.degraded
    assert by_id.timing.users_milliseconds is not None
    assert by_history.timing.users_milliseconds is None
    assert not {item.item_id for item in by_id.items} & {event.item_id for event in events}

    assert_same_items(client.retrieve(user_id="ann"), client.retrieve(as_history(events)))
    items = [item_id(row) for row in range(20)]
    assert_same_items(client.rank([], items, user_id="ann"), client.rank(as_history(events), items))


def test_dismissed_items_are_left_out(client: WinnowClient) -> None:
    watched = watches("dana", 7, 3, 12)
    client.write_events(watched)
    before = client.recommend(user_id="dana", count=100)
    dismissed = [item.item_id for item in before.items[:3]] + ["an item that no release knows"]
    client.write_events(Event(user_id="dana", item_id=item, kind=EventKind.DISMISSAL) for item in dismissed)
    history = as_history(watched)
    expected = client.recommend(history, excluded_item_ids=dismissed)
    assert_same_items(client.recommend(user_id="dana"), expected)
    assert_same_items(client.retrieve(user_id="dana"), client.retrieve(history, excluded_item_ids=dismissed))
    assert not set(dismissed) & {
        one.item_id for one in client.recommend([], user_id="dana", include_watched=True).items
    }
    explained = client.explain(RecommendationRequest(user_id="dana"), dismissed[0])
    assert explained.retrieval.absence_reasons == (AbsenceReason.DISMISSED,)
    assert [event.kind for event in client.history("dana")].count(EventKind.DISMISSAL) == len(dismissed)


def test_watches_of_the_request_come_after_those_that_are_stored(client: WinnowClient) -> None:
    client.write_events(watches("bea", 7, 3))
    more = [Watch(item_id(12), 1.0, START + 50), Watch(item_id(40))]
    assert_same_items(
        client.recommend(more, user_id="bea"), client.recommend([*as_history(watches("bea", 7, 3)), *more])
    )
    # Of 60 watches the latest 50 count; the others may be recommended again.
    client.write_events(watches("cora", *range(40)))
    long = [item_id(row) for row in range(100, 120)]
    expected = client.recommend([*as_history(watches("cora", *range(40)))[10:], *long], count=100)
    assert_same_items(client.recommend(long, user_id="cora", count=100), expected)


def test_requests_of_a_batch_have_users_of_their_own(client: WinnowClient) -> None:
    client.write_events([event for at in range(70) for event in watches(f"user {at}", at, at + 7)])
    requests = [RecommendationRequest(user_id=f"user {at}") for at in range(70)]
    answers = client.recommend_many([*requests, RecommendationRequest([item_id(1)])])
    histories = [RecommendationRequest(as_history(watches("", at, at + 7))) for at in range(70)]
    expected = client.recommend_many([*histories, RecommendationRequest([item_id(1)])])
    for answer, wanted in zip(answers, expected, strict=True):
        assert isinstance(answer, Recommendations)
        assert isinstance(wanted, Recommendations)
        assert_same_items(answer, wanted)


def test_an_explanation_knows_the_stored_watches(client: WinnowClient) -> None:
    client.write_events(watches("dora", 7, 3, 12))
    explained = client.explain(RecommendationRequest([item_id(40)], user_id="dora"), item_id(3))
    expected = client.explain(RecommendationRequest([*as_history(watches("", 7, 3, 12)), item_id(40)]), item_id(3))
    assert explained.retrieval.absence_reasons == expected.retrieval.absence_reasons
    assert AbsenceReason.WATCHED in explained.retrieval.absence_reasons
    for found, wanted in zip(explained.contributions, expected.contributions, strict=True):
        assert found.ranking_score == pytest.approx(wanted.ranking_score, abs=1e-5)
    assert [found.position for found in explained.contributions] == [0, 1, 2, 3]


def test_users_and_items_that_nobody_knows(client: WinnowClient) -> None:
    popular = client.recommend([])
    answer = client.recommend(user_id="nobody")
    assert_same_items(answer, popular)
    assert not answer.degraded
    assert client.history("nobody") == []
    assert client.delete_user("nobody") == 0

    unknown = Event(user_id="eve", item_id="of a later release", time=START)
    client.write_events([unknown])
    assert client.recommend(user_id="eve").unknown_history_count == 1
    assert client.history("eve") == [unknown]


def test_the_history_comes_back_as_it_was_written_and_goes_as_a_whole(client: WinnowClient) -> None:
    events = [
        Event(
            user_id="fay",
            item_id=item_id(at % 300),
            kind=list(EventKind)[at % 3],
            time=START + at,
            recommendation_id="r" if at % 2 else "",
        )
        for at in range(2500)
    ]
    client.write_events(events)
    client.write_events(events[:10])
    assert client.history("fay") == events
    assert client.delete_user("fay") == 2500
    assert client.history("fay") == []
    assert_same_items(client.recommend(user_id="fay"), client.recommend([]))


def test_the_asynchronous_client_does_the_same(client: WinnowClient, stack_with_users: LocalStack) -> None:
    async def run() -> None:
        async with AsyncWinnowClient(stack_with_users.gateway_target, timeout_seconds=10) as winnow:
            events = watches("gil", 7, 3)
            await winnow.write_events(events)
            assert await winnow.history("gil") == events
            assert_same_items(await winnow.recommend(user_id="gil"), client.recommend(user_id="gil"))
            assert_same_items(await winnow.retrieve(user_id="gil"), client.retrieve(user_id="gil"))
            ranked = await winnow.rank([], [item_id(1)], user_id="gil")
            assert_same_items(ranked, client.rank([], [item_id(1)], user_id="gil"))
            assert await winnow.delete_user("gil") == 2

    asyncio.run(run())


def test_one_wrong_event_is_named_and_none_is_stored(client: WinnowClient) -> None:
    good = watches("hal", 1, 2, 3)
    with pytest.raises(WinnowError) as raised:
        client.write_events([good[0], replace(good[1], item_id=""), replace(good[2], event_id="x" * 65)])
    assert raised.value.code is grpc.StatusCode.INVALID_ARGUMENT
    assert {violation.field for violation in raised.value.violations} == {"events[1].item_id", "events[2].event_id"}
    assert client.history("hal") == []


def test_a_user_id_that_is_too_long_is_refused(client: WinnowClient) -> None:
    for call in (
        lambda: client.recommend(user_id="x" * 513),
        lambda: client.history("x" * 513),
        lambda: client.delete_user(""),
        lambda: client.explain(RecommendationRequest(user_id="x" * 513), item_id(1)),
    ):
        with pytest.raises(WinnowError, match="user_id"):
            call()


def test_the_history_is_read_a_page_at_a_time(client: WinnowClient, stack_with_users: LocalStack) -> None:
    events = watches("kim", *range(25))
    client.write_events(events)
    with grpc.insecure_channel(stack_with_users.gateway_target) as channel:
        stub = users_pb2_grpc.UserServiceStub(channel)

        def page(page_size: int, page_token: str) -> users_pb2.GetHistoryResponse:
            request = users_pb2.GetHistoryRequest(user_id="kim", page_size=page_size, page_token=page_token)
            return stub.GetHistory(request, timeout=10)

        found, page_token = [], ""
        for expected_count in (10, 10, 5):
            answer = page(10, page_token)
            assert len(answer.events) == expected_count
            found += [event.event_id for event in answer.events]
            page_token = answer.next_page_token
        assert (found, page_token) == ([event.event_id for event in events], "")
        assert page(25, "").next_page_token == ""
        for page_size, page_token in ((-1, ""), (1, "x"), (1, "1"), (1, "-:x"), (1, "²:x"), (1, "1" * 100 + ":")):
            with pytest.raises(grpc.RpcError) as failure:
                page(page_size, page_token)
            assert failure.value.code() is grpc.StatusCode.INVALID_ARGUMENT


def test_without_the_store_answers_are_degraded_and_say_so(client: WinnowClient, store: Path) -> None:
    client.write_events(watches("ida", 7, 3, 12))
    full = client.recommend(user_id="ida")
    more = [item_id(40)]
    with store_away(store):
        popular = client.recommend(user_id="ida")
        assert popular.degradation == Degradation(step=DegradationStep.POPULAR_RANKED, reason=HISTORY_MISSING)
        assert_same_items(popular, client.recommend([]))
        partly = client.recommend(more, user_id="ida")
        assert partly.degradation == Degradation(step=DegradationStep.WITHOUT_STORED_HISTORY, reason=HISTORY_MISSING)
        assert_same_items(partly, client.recommend(more))
        assert not client.recommend(more).degraded
        for call in (
            lambda: client.recommend(user_id="ida", require_ranked=True),
            lambda: client.retrieve(user_id="ida"),
            lambda: client.rank([], [item_id(1)], user_id="ida"),
            lambda: client.explain(RecommendationRequest(user_id="ida"), item_id(1)),
            lambda: client.write_events(watches("ida", 1)),
            lambda: client.history("ida"),
            lambda: client.delete_user("ida"),
        ):
            with pytest.raises(WinnowError) as raised:
                call()
            assert raised.value.code is grpc.StatusCode.UNAVAILABLE
    assert_same_items(client.recommend(user_id="ida"), full)
    assert client.history("ida") == watches_without_ids(client, "ida", 7, 3, 12)


def watches_without_ids(client: WinnowClient, user_id: str, *rows: int) -> list[Event]:
    """The watches of these rows, with the ids that are stored."""
    ids = [event.event_id for event in client.history(user_id)]
    return [replace(event, event_id=id_) for event, id_ in zip(watches(user_id, *rows), ids, strict=True)]


def test_a_gateway_without_a_store_says_so(stack: LocalStack) -> None:
    with WinnowClient(stack.gateway_target, timeout_seconds=10) as client:
        with pytest.raises(WinnowError, match="user_id: is set, but this gateway has no store") as raised:
            client.recommend(user_id="ann")
        assert raised.value.code is grpc.StatusCode.INVALID_ARGUMENT
        with pytest.raises(WinnowError, match="users_store") as raised:
            client.write_events(watches("ann", 1))
        assert raised.value.code is grpc.StatusCode.FAILED_PRECONDITION


def test_the_command_recommends_for_a_stored_user(client: WinnowClient, stack_with_users: LocalStack) -> None:
    client.write_events(watches("jan", 7, 3))
    arguments = ["recommend", f"--target={stack_with_users.gateway_target}", "--user-id=jan", "--count=3", item_id(12)]
    result = CliRunner().invoke(app, arguments, env={"COLUMNS": "200"})
    assert result.exit_code == 0, result.output
    assert "Watched: Title 7, Title 3, Title 12\n" in result.stdout
    assert "reading the history" in result.stdout
    for item in client.recommend([item_id(12)], user_id="jan", count=3).items:
        assert item.item_id in result.stdout
