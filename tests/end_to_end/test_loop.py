"""The loop with real services: answers are logged, events come in, what is trained from both is served."""

import os
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import polars as pl
import pytest
from typer.testing import CliRunner

from tests.conftest import local_stack
from tests.unit.training.planted import planted_histories, write_planted_log
from tests.unit.training.planted_run import train_planted
from tests.unit.training.settings import TINY
from winnow.answer_log.files import Damage, log_files, read_lines
from winnow.cli import app
from winnow.client import Event, EventKind, WinnowClient
from winnow.loop.export import IMPRESSIONS_FILE, WATCHES_FILE
from winnow.release.reader import current_release_id, open_release
from winnow.serving.local_stack import LocalStack

# Trains twice.
pytestmark = pytest.mark.slow

SETTINGS = replace(TINY, candidate=replace(TINY.candidate, epochs=2), ranking=replace(TINY.ranking, epochs=1))
STARTED = int(time.time())


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("loop")
    write_planted_log(directory / "log.csv")
    train_planted(directory, SETTINGS)
    return directory


@pytest.fixture(scope="module")
def stack(place: Path) -> Iterator[LocalStack]:
    flags = [
        f"--users-store={place / 'users.db'}",
        "--users-timeout-seconds=5",
        f"--answer-log={place / 'answers'}",
        "--answer-log-share=1",
    ]
    with local_stack(place / "releases", gateway=flags) as running:
        yield running


def wait_for_records(place: Path, count: int) -> None:
    give_up = time.monotonic() + 30
    while True:
        files = log_files([place / "answers"]) if (place / "answers").is_dir() else []
        if sum(len(list(read_lines(path, Damage()))) for path in files) >= count:
            return
        assert time.monotonic() < give_up
        time.sleep(0.1)


def test_what_was_served_and_what_came_of_it_becomes_the_next_release(place: Path, client: WinnowClient) -> None:
    histories = planted_histories()
    users = [f"user {number}" for number in range(len(histories))]
    client.write_events(
        Event(user_id=user, item_id=f"item {row}", time=STARTED + second)
        for number, user in enumerate(users)
        for second, row in enumerate(histories[number].tolist())
    )
    answers = {user: client.recommend(user_id=user, count=5, request_time=STARTED + 100) for user in users}
    client.recommend(["item 1"], count=5)  # without a user: not logged
    # Everybody watches the second item; one cites what another user was recommended, and one an invented id.
    cited = {user: answer.recommendation_id for user, answer in answers.items()}
    cited |= {"user 0": answers["user 2"].recommendation_id, "user 1": "invented"}
    client.write_events(
        Event(
            user_id=user,
            item_id=answers[user].items[1].item_id,
            time=STARTED + 200,
            weight=3.0,
            recommendation_id=cited[user],
        )
        for user in users
    )
    # One answer was shown in part only.
    client.write_events(
        Event(
            user_id="user 4",
            item_id=item.item_id,
            time=STARTED + 101,
            kind=EventKind.IMPRESSION,
            recommendation_id=cited["user 4"],
        )
        for item in answers["user 4"].items[:3]
    )
    assert client.delete_user("user 7") == 13
    wait_for_records(place, len(users))

    stored = ["--users-store", str(place / "users.db"), "--answer-log", str(place / "answers")]
    exported = CliRunner().invoke(app, ["export-log", *stored, "--output", str(place / "export")])
    assert exported.exit_code == 0, exported.output
    watches = pl.read_ndjson(place / "export" / WATCHES_FILE)
    impressions = pl.read_ndjson(place / "export" / IMPRESSIONS_FILE)
    assert sorted(set(users) - {"user 7"}) == sorted(watches["user_id"].unique())
    assert watches.height == 79 * 13
    assert impressions.height == 78 * 5 + 3
    assert "user 7" not in impressions["user_id"].to_list()
    clicked = impressions.filter("clicked")
    assert clicked.height == 77
    assert set(clicked["place"]) == {2}
    assert set(clicked["watch_seconds"]) == {3.0}
    assert set(impressions["release_id"]) == {current_release_id(place / "releases")}
    assert not {"user 0", "user 1"} & set(clicked["user_id"])
    assert "1 clicks and watches cite an answer to another user: not joined" in exported.output
    assert "1 clicks and watches cite what is not among the impressions" in exported.output

    base = current_release_id(place / "releases")
    given = ["--releases", str(place / "releases"), "--work", str(place / "work"), "--margin", "1"]
    retrained = CliRunner().invoke(app, ["retrain", *stored, *given])
    assert retrained.exit_code == 0, retrained.output
    new = current_release_id(place / "releases")
    assert new != base
    assert open_release(place / "releases" / new).manifest.training["started_from"] == base
    give_up = time.monotonic() + 60
    while (answer := client.recommend(user_id="user 3")).release_id != new:
        assert time.monotonic() < give_up
        time.sleep(0.1)
    assert not answer.degraded


def test_a_gateway_that_is_killed_leaves_a_log_that_is_read(
    place: Path, client: WinnowClient, stack: LocalStack
) -> None:
    """Needs the test above, and is the last one of this module: it ends the gateway."""
    before = sum(len(list(read_lines(path, Damage()))) for path in log_files([place / "answers"]))
    for _ in range(20):
        client.recommend(user_id="user 3")
    wait_for_records(place, before + 20)
    gateway = stack.processes["gateway"]
    os.kill(gateway.pid, 9)
    gateway.wait()
    given = ["--users-store", str(place / "users.db"), "--answer-log", str(place / "answers")]
    result = CliRunner().invoke(app, ["export-log", *given, "--output", str(place / "again"), "--compact"])
    assert result.exit_code == 0, result.output
    # Nobody holds the file any more, so the deleted user is taken out of it.
    assert "1 answers of deleted users were taken out of 1 files; 0 files are being written" in result.output
