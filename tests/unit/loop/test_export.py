"""Stores and answer logs become the two files that training reads."""

import asyncio
import resource
from collections.abc import Sequence
from pathlib import Path

import polars as pl
import pytest
import typer
from typer.testing import CliRunner

from tests.unit.answer_log.records import record, write_log
from tests.unit.users.events import event
from winnow.answer_log.deleted_users import note_deletion
from winnow.commands.export_log import export_log
from winnow.locks import only_process_in
from winnow.logs.impressions import read_impressions
from winnow.logs.interactions import read_interactions
from winnow.loop.export import IMPRESSIONS_FILE, WATCHES_FILE, Exported, export_from
from winnow.users.events import Event, EventKind
from winnow.users.sqlite_store import SqliteStore

ANSWER = record(1_000, "ann", items=["item 1", "item 2"])


def fill(path: Path, events: Sequence[Event]) -> str:
    async def run() -> None:
        store = SqliteStore(path, 100)
        await store.open()
        await store.append(events)
        await store.close()

    asyncio.run(run())
    return str(path)


@pytest.fixture
def store(tmp_path: Path) -> str:
    events = [
        event("1", "ann", timestamp_seconds=1_100, recommendation_id=ANSWER.recommendation_id, weight=4.0),
        event("3", "ann", timestamp_seconds=900),
        event("4", 'bea\n,"é', timestamp_seconds=950),
        event("5", 'bea\n,"é', timestamp_seconds=960, kind=EventKind.CLICK, recommendation_id=ANSWER.recommendation_id),
        event("6", 'bea\n,"é', timestamp_seconds=961, kind=EventKind.CLICK, recommendation_id="invented"),
        event("1", 'bea\n,"é', timestamp_seconds=970, kind=EventKind.IMPRESSION),
    ]
    return fill(tmp_path / "users.db", events)


def run_export(store: str, logs: Sequence[Path], output: Path, *, skip_bad_rows: bool = False) -> Exported:
    return asyncio.run(export_from(store, logs, output, skip_bad_rows=skip_bad_rows))


def test_training_reads_what_was_exported(store: str, tmp_path: Path) -> None:
    write_log(tmp_path / "log", [ANSWER], [record(1_001, "cora", items=["item 3"])])
    done = run_export(store, [tmp_path / "log"], tmp_path / "export")
    assert (done.watch_count, done.user_count, done.impression_count, done.clicked_count) == (3, 3, 4, 1)
    interactions = read_interactions(tmp_path / "export" / WATCHES_FILE, vocabulary_size=100, min_item_count=1)
    assert interactions.of_user("ann").item_ids == ["item 3", "item 1"]
    assert interactions.of_user("ann").weights == [1.0, 4.0]
    impressions = read_impressions(tmp_path / "export" / IMPRESSIONS_FILE, interactions)
    assert impressions.clicked.tolist() == [False, True, False]  # item 2 was never watched: it has no row
    assert impressions.watch_seconds.tolist() == [0.0, 4.0, 0.0]
    assert impressions.history_lengths.tolist() == [1, 1, 0]
    frame = pl.read_ndjson(tmp_path / "export" / IMPRESSIONS_FILE)
    assert frame.filter(user_id="ann").select("item_id", "place", "degradation").rows() == [
        ("item 1", 1, "NONE"),
        ("item 2", 2, "NONE"),
    ]
    assert frame.filter(user_id="cora")["release_id"].to_list() == [ANSWER.release_id]


def test_a_recommendation_of_another_user_or_an_unknown_one_is_not_joined(store: str, tmp_path: Path) -> None:
    write_log(tmp_path / "log", [ANSWER])
    done = run_export(store, [tmp_path / "log"], tmp_path / "export")
    assert (done.foreign_citation_count, done.unknown_citation_count) == (1, 1)
    frame = pl.read_ndjson(tmp_path / "export" / IMPRESSIONS_FILE)
    assert frame.filter(user_id='bea\n,"é').select("item_id", "clicked").rows() == [("item 1", False)]
    assert frame.filter(user_id="ann").select("item_id", "clicked").rows() == [("item 1", True), ("item 2", False)]


def test_deleted_users_are_not_exported_whichever_gateway_deleted_them(store: str, tmp_path: Path) -> None:
    write_log(tmp_path / "a", [ANSWER, record(1_002, "cora")])
    (tmp_path / "b").mkdir()
    note_deletion(tmp_path / "b", "cora")
    done = run_export(store, [tmp_path / "a", tmp_path / "b"], tmp_path / "export")
    assert done.deleted_answer_count == 1
    assert "cora" not in pl.read_ndjson(tmp_path / "export" / IMPRESSIONS_FILE)["user_id"].to_list()


def test_a_record_that_is_there_twice_counts_once(store: str, tmp_path: Path) -> None:
    write_log(tmp_path / "log", [ANSWER], [ANSWER])
    done = run_export(store, [tmp_path / "log"], tmp_path / "export")
    assert (done.answer_count, done.repeated_answer_count, done.impression_count) == (1, 1, 3)


def test_of_a_user_with_very_many_answers_the_latest_are_exported(
    store: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("winnow.loop.export.MAX_ANSWERS_PER_USER", 3)
    write_log(tmp_path / "log", [record(number, "everybody", items=["x"]) for number in range(2_000, 2_010)])
    done = run_export(store, [tmp_path / "log"], tmp_path / "export")
    assert done.omitted_answer_count == 7
    assert "7 older answers are left out" in "\n".join(done.lines())
    frame = pl.read_ndjson(tmp_path / "export" / IMPRESSIONS_FILE).filter(user_id="everybody")
    assert sorted(frame["timestamp"].to_list()) == [2_007, 2_008, 2_009]


def test_a_cut_file_is_read_up_to_the_cut_and_that_is_said(store: str, tmp_path: Path) -> None:
    path = write_log(tmp_path / "log", [ANSWER], [record(1_003, "cora")])
    path.write_bytes(path.read_bytes()[:-5])
    done = run_export(store, [tmp_path / "log"], tmp_path / "export")
    assert done.answer_count >= 1
    [message] = done.damage.cut_files
    assert message in list(done.lines())
    assert message.startswith(f"{path} ends in the middle of a record, after ")


@pytest.fixture
def app() -> typer.Typer:
    app = typer.Typer()
    app.command()(export_log)
    return app


def test_an_export_that_fails_leaves_the_earlier_one(app: typer.Typer, store: str, tmp_path: Path) -> None:
    log, output = tmp_path / "log", tmp_path / "export"
    path = write_log(log, [ANSWER])
    arguments = ["--users-store", store, "--answer-log", str(log), "--output", str(output)]
    assert CliRunner().invoke(app, arguments, catch_exceptions=False).exit_code == 0
    before = {found.name: found.read_bytes() for found in output.iterdir()}
    assert set(before) == {WATCHES_FILE, IMPRESSIONS_FILE}
    path.write_bytes(path.read_bytes() + b"damage")
    failed = CliRunner().invoke(app, arguments)
    assert failed.exit_code == 1
    assert f"{path}: line 2: cannot be read" in failed.output
    assert {found.name: found.read_bytes() for found in output.iterdir()} == before
    skipped = CliRunner().invoke(app, [*arguments, "--skip-bad-rows"])
    assert skipped.exit_code == 0
    assert "1 lines of the answer log cannot be read" in skipped.output


def test_a_full_disk_is_one_line_and_leaves_nothing(
    app: typer.Typer, store: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # So that the answers are written at once, and no file of this process may become long.
    monkeypatch.setattr("winnow.loop.export.CACHE_KIBIBYTES", 1)
    write_log(tmp_path / "log", [record(number, items=[f"item {number}"] * 50) for number in range(200)])
    given = ["--users-store", store, "--answer-log", str(tmp_path / "log"), "--output", str(tmp_path / "export")]
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (64 * 1024, before[1]))
    try:
        result = CliRunner().invoke(app, given)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert result.exit_code == 1
    assert "the answers have no room there" in result.output
    assert not list((tmp_path / "export").iterdir())


def test_a_store_that_is_not_there_is_not_made(app: typer.Typer, tmp_path: Path) -> None:
    given = ["--users-store", str(tmp_path / "users.db"), "--output", str(tmp_path / "export")]
    result = CliRunner().invoke(app, given)
    assert result.exit_code == 1
    assert "the store of users cannot be read (SQLITE_CANTOPEN)" in result.output
    assert not (tmp_path / "users.db").exists()
    assert not list((tmp_path / "export").iterdir())


def test_two_exports_to_one_directory_do_not_run_at_once(app: typer.Typer, store: str, tmp_path: Path) -> None:
    given = ["--users-store", store, "--output", str(tmp_path / "export")]
    with only_process_in(tmp_path / "export"):
        result = CliRunner().invoke(app, given)
    assert result.exit_code == 1
    assert "another process is working there" in result.output
    assert CliRunner().invoke(app, given).exit_code == 0


def test_compaction_is_part_of_the_command(app: typer.Typer, store: str, tmp_path: Path) -> None:
    write_log(tmp_path / "log", [record(1, "cora"), ANSWER])
    note_deletion(tmp_path / "log", "cora")
    given = ["--users-store", store, "--answer-log", str(tmp_path / "log"), "--output", str(tmp_path / "export")]
    result = CliRunner().invoke(app, [*given, "--compact"], catch_exceptions=False)
    assert "1 answers of deleted users were taken out of 1 files" in result.output
    assert "0 others are of deleted users" in CliRunner().invoke(app, given).output
