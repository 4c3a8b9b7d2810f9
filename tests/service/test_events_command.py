"""`winnow events`: a log goes into the store, a user is shown and removed."""

from collections.abc import Iterator
from pathlib import Path

import polars as pl
import pytest
from typer.testing import CliRunner, Result

from tests.releases import item_id
from tests.service.process import RunningService, running
from winnow.cli import app
from winnow.client import Event, EventKind, WinnowClient
from winnow.serving.local_stack import LocalStack

START = 1_700_000_000


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("store") / "users.db"


@pytest.fixture(scope="module")
def gateway(releases: Path, store: Path) -> Iterator[RunningService]:
    with running("gateway", releases, f"--users-store={store}") as service:
        yield service


@pytest.fixture(scope="module")
def client(gateway: RunningService) -> Iterator[WinnowClient]:
    with WinnowClient(gateway.target, timeout_seconds=10) as opened:
        yield opened


def run(target: str, command: str, *arguments: str, answer: str | None = None) -> Result:
    line = ["events", command, *arguments, f"--target={target}"]
    return CliRunner().invoke(app, line, input=answer, env={"COLUMNS": "250"})


def write_log(path: Path, rows: list[tuple[str, str, float, float]]) -> Path:
    pl.DataFrame(rows, schema=["user_id", "item_id", "timestamp", "weight"], orient="row").write_csv(path)
    return path


def test_a_log_is_stored_once_however_often_it_is_written(
    gateway: RunningService, client: WinnowClient, tmp_path: Path
) -> None:
    rows = [(f"log-user-{at % 5}", item_id(at % 300), START + at, float(at % 5)) for at in range(2300)]
    log = write_log(tmp_path / "log.csv", [*rows, rows[0]])
    result = run(gateway.target, "write", str(log))
    assert result.exit_code == 0, result.output
    assert f"{log}: 2,300 events of 5 users are stored" in result.stdout
    assert "2300/2300" in result.stderr
    found = client.history("log-user-3")
    assert [(event.item_id, event.time, event.weight) for event in found] == [
        (item, time, weight) for user, item, time, weight in rows if user == "log-user-3"
    ]

    # Grown, in another order and another format: the new events come in, the others are known.
    grown = [*rows, ("log-user-3", item_id(7), START + 5000.25, 1.0)]
    columns = ["user_id", "item_id", "timestamp", "weight"]
    pl.DataFrame(grown[::-1], schema=columns, orient="row").write_parquet(tmp_path / "log.parquet")
    assert run(gateway.target, "write", str(tmp_path / "log.parquet")).exit_code == 0
    again = client.history("log-user-3")
    assert again[:-1] == found
    assert (again[-1].item_id, again[-1].time) == (item_id(7), START + 5000)


def test_what_the_store_cannot_hold_is_said_before_anything_is_sent(
    gateway: RunningService, client: WinnowClient, tmp_path: Path
) -> None:
    good = ("careful", item_id(1), START, 1.0)
    for wrong, problem in ((("x" * 513, item_id(1), START, 1.0), "user id"), (("careful", "x", 0.5, 1.0), "time 0")):
        result = run(gateway.target, "write", str(write_log(tmp_path / "log.csv", [good, wrong])))
        assert result.exit_code == 1
        assert problem in result.stderr
    assert run(gateway.target, "write", str(tmp_path / "no such log.csv")).exit_code == 1
    assert client.history("careful") == []


def test_a_write_that_fails_says_that_it_can_be_repeated(
    gateway: RunningService, client: WinnowClient, store: Path, tmp_path: Path
) -> None:
    log = write_log(tmp_path / "log.csv", [("patient", item_id(at), START + at, 1.0) for at in range(20)])
    elsewhere = store.with_suffix(".away")
    store.rename(elsewhere)
    try:
        result = run(gateway.target, "write", str(log))
    finally:
        elsewhere.rename(store)
    assert result.exit_code == 1
    assert "the store of users cannot be used" in result.stderr
    assert "The same command continues" in result.stderr
    assert run(gateway.target, "write", str(log)).exit_code == 0
    assert len(client.history("patient")) == 20


def test_a_user_is_shown_with_titles(gateway: RunningService, client: WinnowClient) -> None:
    client.write_events(
        [
            Event(user_id="[red]ann", item_id=item_id(7), time=START, weight=2.5),
            Event(user_id="[red]ann", item_id="[b]unknown", kind=EventKind.CLICK, time=START + 1),
            Event(user_id="[red]ann", item_id=item_id(3), time=START + 2, recommendation_id="r1"),
        ]
    )
    result = run(gateway.target, "show", "[red]ann")
    assert result.exit_code == 0, result.output
    for expected in ("2023-11-14 22:13:20", "Title 7", "2.5", "CLICK", "[b]unknown", "r1", "[red]ann: 3 events"):
        assert expected in result.stdout
    latest = run(gateway.target, "show", "[red]ann", "--count=1").stdout
    assert "Title 3" in latest
    assert "Title 7" not in latest
    assert "3 events, the latest 1 are shown" in latest
    assert "nobody: 0 events" in run(gateway.target, "show", "nobody").stdout
    assert run(gateway.target, "show", "x" * 513).exit_code == 1


def test_in_a_narrow_terminal_times_stay_whole(gateway: RunningService, client: WinnowClient) -> None:
    client.write_events([Event(user_id="eve", item_id=item_id(7), time=START)])
    arguments = ["events", "show", "eve", f"--target={gateway.target}"]
    shown = CliRunner().invoke(app, arguments, env={"COLUMNS": "80"}).stdout
    assert "2023-11-14 22:13:20" in shown
    assert "recommendation" not in shown


def test_a_user_is_removed_if_the_answer_is_yes(gateway: RunningService, client: WinnowClient) -> None:
    client.write_events([Event(user_id="bob", item_id=item_id(1)), Event(user_id="carl", item_id=item_id(1))])
    assert run(gateway.target, "delete", "bob", answer="n\n").exit_code == 1
    assert len(client.history("bob")) == 1
    result = run(gateway.target, "delete", "bob", answer="y\n")
    assert result.exit_code == 0, result.output
    assert "bob: 1 events were removed" in result.stdout
    assert client.history("bob") == []
    assert run(gateway.target, "delete", "carl", "--yes").exit_code == 0
    assert client.history("carl") == []


def test_a_gateway_without_a_store_says_so(stack: LocalStack, tmp_path: Path) -> None:
    log = write_log(tmp_path / "log.csv", [("ann", item_id(1), START, 1.0)])
    for arguments in (("write", str(log)), ("show", "ann"), ("delete", "ann", "--yes")):
        result = run(stack.gateway_target, *arguments)
        assert result.exit_code == 1
        assert "users_store" in result.stderr
