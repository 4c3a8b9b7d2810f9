"""A deleted user's earlier answers are no part of the log: at once for readers, and after a compaction in no file."""

import gzip
import os
import time
from pathlib import Path

import pytest

from tests.unit.answer_log.records import record, write_log
from winnow.answer_log.compaction import compact
from winnow.answer_log.deleted_users import DeletedUsers, note_deletion
from winnow.answer_log.files import Damage, new_file, read_lines
from winnow.answer_log.records import AnswerRecord
from winnow.answer_log.whole_file import whole_file

LATER = int(time.time()) + 1000


def records_of(path: Path) -> list[AnswerRecord]:
    return [found for _, found in read_lines(path, Damage())]


def test_answers_before_the_deletion_are_left_out_and_later_ones_are_kept(tmp_path: Path) -> None:
    note_deletion(tmp_path, "ann")
    deleted = DeletedUsers.read([tmp_path])
    assert deleted.include(record(5, "ann"))
    assert not deleted.include(record(5, "bea"))
    assert not deleted.include(record(LATER, "ann"))


def test_the_last_deletion_counts_and_one_machine_deletes_for_all(tmp_path: Path) -> None:
    for log in ("a", "b"):
        note_deletion(tmp_path / log, "ann")
    note_deletion(tmp_path / "a", "ann")
    [digest] = {path.name.split("-")[0] for path in tmp_path.glob("*/deleted/*")}
    (tmp_path / "b" / "deleted" / f"{digest}-{(LATER + 5) * 1000}").touch()
    assert DeletedUsers.read([tmp_path / "a", tmp_path / "b"]).include(record(LATER, "ann"))
    assert not DeletedUsers.read([tmp_path / "a"]).include(record(LATER, "ann"))
    assert b"ann" not in b"".join(bytes(path) for path in tmp_path.glob("*/deleted/*"))


def test_a_file_that_is_no_deletion_is_named(tmp_path: Path) -> None:
    (tmp_path / "deleted").mkdir()
    (tmp_path / "deleted" / "notes.txt").touch()
    with pytest.raises(ValueError, match=r"notes\.txt is not a deletion"):
        DeletedUsers.read([tmp_path])


def test_compaction_rewrites_the_files_that_hold_deleted_users(tmp_path: Path) -> None:
    with_ann = write_log(tmp_path, [record(1, "ann"), record(2, "bea")], [record(LATER, "ann")])
    without = write_log(tmp_path, [record(3, "bea")])
    untouched = without.read_bytes()
    note_deletion(tmp_path, "ann")
    done = compact([tmp_path])
    assert (done.rewritten_count, done.removed_record_count, done.busy_count) == (1, 1, 0)
    assert records_of(with_ann) == [record(2, "bea"), record(LATER, "ann")]
    assert without.read_bytes() == untouched
    assert gzip.decompress(with_ann.read_bytes()).count(b"ann") == 1
    assert not list(tmp_path.glob(".*"))
    assert compact([tmp_path]).rewritten_count == 0


def test_a_file_that_a_gateway_writes_is_left_alone(tmp_path: Path) -> None:
    descriptor = new_file(tmp_path)
    note_deletion(tmp_path, "ann")
    assert compact([tmp_path]).busy_count == 1
    os.close(descriptor)
    assert compact([tmp_path]).busy_count == 0


def test_a_file_takes_its_place_as_a_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("old")

    def fail() -> None:
        with whole_file(path) as file:
            file.write(b"half")
            raise ValueError("broken")

    with pytest.raises(ValueError, match="broken"):
        fail()
    assert path.read_text() == "old"
    with whole_file(path) as file:
        file.write(b"new")
    assert path.read_text() == "new"
    assert [found.name for found in tmp_path.iterdir()] == ["file"]
