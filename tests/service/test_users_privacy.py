"""Real services at the default level of logs: no user, item or event is in what they log."""

import signal
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path

import grpc
import pytest

from tests.redis_server import redis_server
from tests.releases import item_id
from tests.service.process import RunningService, running
from winnow.client import Event, EventKind, RecommendationRequest, Watch, WinnowClient, WinnowError

INVALID, UNAVAILABLE = grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.UNAVAILABLE
# Whatever is sent has this in it, but for an item that the release knows, whose id is a short number.
SECRET = "secret"  # noqa: S105 - a word to look for
USER = f"{SECRET}-user"
KNOWN = item_id(7)
EVENT = Event(
    user_id=USER,
    item_id=f"{SECRET}-item",
    time=1_700_000_000,
    event_id=f"{SECRET}-event",
    recommendation_id=f"{SECRET}-answer",
)
WRONG_EVENTS = (
    replace(EVENT, user_id=""),
    replace(EVENT, user_id=SECRET * 100),
    replace(EVENT, item_id=SECRET * 100),
    replace(EVENT, event_id=SECRET * 20),
    replace(EVENT, recommendation_id=SECRET * 20),
    replace(EVENT, weight=-1.0),
    replace(EVENT, kind=EventKind.CLICK, weight=1.0),
    replace(EVENT, time=10**15),
)


@contextmanager
def all_services(releases: Path, *flags: str) -> Iterator[dict[str, RunningService]]:
    with ExitStack() as services:
        started = {
            name: services.enter_context(running(name, releases)) for name in ("candidate_service", "ranking_service")
        }
        targets = (
            f"--candidate-target={started['candidate_service'].target}",
            f"--ranking-target={started['ranking_service'].target}",
        )
        started["gateway"] = services.enter_context(running("gateway", releases, *targets, *flags))
        yield started


def logs(services: dict[str, RunningService]) -> str:
    """Stop the services and return everything that they have logged."""
    for service in services.values():
        service.process.send_signal(signal.SIGTERM)
    return "".join(service.process.communicate(timeout=30)[1] for service in services.values())


def answered(calls: list[Callable[[], object]]) -> None:
    for call in calls:
        call()


def failing(calls: list[Callable[[], object]], code: grpc.StatusCode) -> None:
    for call in calls:
        with pytest.raises(WinnowError) as raised:
            call()
        assert raised.value.code is code


def calls_of_the_store(client: WinnowClient, user_id: str) -> list[Callable[[], object]]:
    return [lambda: client.history(user_id), lambda: client.delete_user(user_id)]


def calls_of_stages(client: WinnowClient, user_id: str) -> list[Callable[[], object]]:
    return [
        lambda: client.retrieve(user_id=user_id),
        lambda: client.rank([], [KNOWN, f"{SECRET}-ranked"], user_id=user_id),
        lambda: client.explain(RecommendationRequest(user_id=user_id), KNOWN),
    ]


def recommendations(client: WinnowClient) -> list[Callable[[], object]]:
    """Answered, degraded or not, whatever happens to the store."""
    return [
        lambda: client.recommend(user_id=USER),
        lambda: client.recommend(
            [Watch(f"{SECRET}-watch"), KNOWN], user_id=USER, excluded_item_ids=[f"{SECRET}-excluded"]
        ),
        lambda: client.recommend_many(
            [RecommendationRequest(user_id=USER), RecommendationRequest(user_id=SECRET * 100)]
        ),
    ]


def test_no_log_of_a_gateway_names_a_user_an_item_or_an_event(releases: Path, tmp_path: Path) -> None:
    store = tmp_path / "users.db"
    # There are no stages: recommendations are degraded, and other calls fail for that reason too.
    with running("gateway", releases, f"--users-store={store}") as gateway:
        with WinnowClient(gateway.target, timeout_seconds=5, retries=False) as client:
            client.write_events([EVENT, replace(EVENT, item_id=KNOWN, event_id=f"{SECRET} 2")])
            answered(recommendations(client))
            failing(calls_of_stages(client, USER), UNAVAILABLE)
            answered(calls_of_the_store(client, USER))
            check_failures(client, store)
        log = logs({"gateway": gateway})
    assert "the store of users cannot be used" in log
    assert SECRET not in log


@pytest.mark.slow
def test_no_log_of_any_service_names_a_user_an_item_or_an_event(releases: Path, tmp_path: Path) -> None:
    store = tmp_path / "users.db"
    stages = ("candidate_service", "ranking_service")
    with all_services(releases, f"--users-store={store}") as services:
        with WinnowClient(services["gateway"].target, timeout_seconds=10, retries=False) as client:
            events = [EVENT, replace(EVENT, item_id=KNOWN, event_id=f"{SECRET} 2")]
            client.write_events(events)
            answered([*recommendations(client), *calls_of_stages(client, USER), *calls_of_the_store(client, USER)])
            check_failures(client, store)
            client.write_events(events)
            for name in stages:
                services[name].process.send_signal(signal.SIGSTOP)
            answered(recommendations(client)[:1])
            for call in calls_of_stages(client, USER):
                with pytest.raises(WinnowError):
                    call()
            for name in stages:
                services[name].process.send_signal(signal.SIGCONT)
        log = logs(services)
    assert log.count("serving") >= len(services)
    assert SECRET not in log


def check_failures(client: WinnowClient, store: Path) -> None:
    """Every call fails: because of what is sent, and because the store is away."""
    failing([lambda event=event: client.write_events([event]) for event in WRONG_EVENTS], INVALID)  # type: ignore[misc]
    failing([*calls_of_stages(client, SECRET * 100), *calls_of_the_store(client, SECRET * 100)], INVALID)
    failing([lambda: client.recommend([SECRET * 100], user_id=USER)], INVALID)
    away = store.with_suffix(".away")
    store.rename(away)
    answered(recommendations(client))
    failing([lambda: client.write_events([EVENT])], UNAVAILABLE)
    failing([*calls_of_stages(client, USER), *calls_of_the_store(client, USER)], UNAVAILABLE)
    away.rename(store)


def test_no_log_names_a_user_where_the_store_is_a_server(releases: Path, tmp_path: Path) -> None:
    with redis_server(tmp_path) as server:
        secret_url = server.address.replace("//", f"//:{SECRET}-password@")
        server.command("CONFIG", "SET", "requirepass", f"{SECRET}-password")
        with running("gateway", releases, f"--users-store={secret_url}") as gateway:
            with WinnowClient(gateway.target, timeout_seconds=5, retries=False) as client:
                answered([lambda: client.write_events([EVENT]), *recommendations(client)])
                assert client.history(USER) == [EVENT]
                assert client.delete_user(USER) == 1
                server.kill()
                answered(recommendations(client))
                failing([lambda: client.write_events([EVENT])], UNAVAILABLE)
                failing([*calls_of_stages(client, USER), *calls_of_the_store(client, USER)], UNAVAILABLE)
            log = logs({"gateway": gateway})
    assert "the store of users cannot be used" in log
    assert SECRET not in log
