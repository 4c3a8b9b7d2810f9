"""What was written is read again, and what is wrong with a file is said with its line."""

import gzip
import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.answer_log.records import record, write_log
from winnow.answer_log.files import MAX_LINE_BYTES, AnswerLogError, Damage, log_files, read_lines
from winnow.answer_log.records import AnswerRecord, ServedItem, line_of, record_of


def read(path: Path, *, skip_bad_rows: bool = False) -> tuple[list[AnswerRecord], Damage]:
    damage = Damage()
    return [found for _, found in read_lines(path, damage, skip_bad_rows=skip_bad_rows)], damage


TEXT = st.text(st.characters(codec="utf-8"), min_size=1, max_size=20)


@given(TEXT, st.lists(st.tuples(TEXT, st.floats(width=32, allow_nan=False, allow_infinity=False)), max_size=5))
def test_a_record_of_any_ids_survives(user_id: str, items: list[tuple[str, float]]) -> None:
    written = record(5, user_id).model_copy(
        update={"items": tuple(ServedItem(item_id=id_, score=score, sources=("fresh",)) for id_, score in items)}
    )
    line = line_of(written.model_dump())
    assert line.count(b"\n") == 1
    assert record_of(line) == written


def test_a_file_is_lines_of_json_in_gzip(tmp_path: Path) -> None:
    path = write_log(tmp_path, [record(1)], [record(2), record(3)])
    lines = gzip.decompress(path.read_bytes()).splitlines()
    assert [json.loads(line)["timestamp"] for line in lines] == [1, 2, 3]
    assert [item["item_id"] for item in json.loads(lines[0])["items"]] == ["a", "b"]
    found, damage = read(path)
    assert found == [record(1), record(2), record(3)]
    assert damage == Damage()
    assert record(3).answered_milliseconds == 3000


BLOCKS = [[record(1), record(2)], [record(3, items=[f"item {at}" for at in range(50)])], [record(4)]]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return write_log(tmp_path_factory.mktemp("log"), *BLOCKS).read_bytes()


@settings(max_examples=60)
@given(st.data())
def test_a_file_that_is_cut_anywhere_is_read_up_to_there(
    whole: bytes, tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    cut = data.draw(st.integers(0, len(whole)))
    path = tmp_path_factory.mktemp("cut") / "answers-cut.jsonl.gz"
    path.write_bytes(whole[:cut])
    found, damage = read(path)
    everything = [one for block in BLOCKS for one in block]
    assert found == everything[: len(found)]
    if cut == len(whole):
        assert len(found) == 4
    if len(found) not in (0, 2, 3, 4):
        assert damage.cut_files
    for message in damage.cut_files:
        assert message == f"{path} ends in the middle of a record, after {len(found)} whole ones"


def test_a_line_that_is_no_record_is_named_and_can_be_skipped(tmp_path: Path) -> None:
    lines = [line_of(record(1).model_dump()), b'{"user_id": "secret"}\n', b"nothing\n", line_of(record(2).model_dump())]
    path = tmp_path / "answers-1.jsonl.gz"
    path.write_bytes(gzip.compress(b"".join(lines)))
    with pytest.raises(
        AnswerLogError, match=r"answers-1\.jsonl\.gz: line 2: recommendation_id: Field required"
    ) as error:
        read(path)
    assert "secret" not in str(error.value)
    found, damage = read(path, skip_bad_rows=True)
    assert found == [record(1), record(2)]
    assert [row.split(": ")[1] for row in damage.bad_rows] == ["line 2", "line 3"]


def test_a_score_that_training_could_not_read_is_no_record(tmp_path: Path) -> None:
    path = tmp_path / "answers-1.jsonl.gz"
    path.write_bytes(gzip.compress(line_of(record(1).model_dump()).replace(b"0.5", b"NaN", 1)))
    with pytest.raises(AnswerLogError, match=r"items\.0\.score: Input should be a finite number"):
        read(path)


@pytest.mark.parametrize(
    "content", [b"not gzip, but long enough to be anything else", gzip.compress(b"x" * (MAX_LINE_BYTES + 2))]
)
def test_what_is_no_log_is_refused_with_its_line(tmp_path: Path, content: bytes) -> None:
    path = write_log(tmp_path, [record(1)])
    path.write_bytes(path.read_bytes() + content)
    with pytest.raises(AnswerLogError, match="line 2: cannot be read, nor what follows"):
        read(path)
    found, damage = read(path, skip_bad_rows=True)
    assert found == [record(1)]
    assert len(damage.bad_rows) == 1


def test_files_of_several_directories_are_read_by_their_time(tmp_path: Path) -> None:
    for name in ("a/answers-2.jsonl.gz", "b/answers-1.jsonl.gz", "b/other.gz"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    assert [path.name for path in log_files([tmp_path / "a", tmp_path / "b"])] == [
        "answers-1.jsonl.gz",
        "answers-2.jsonl.gz",
    ]
    with pytest.raises(AnswerLogError, match="is not the directory of an answer log"):
        log_files([tmp_path / "c"])
