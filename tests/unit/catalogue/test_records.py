from pathlib import Path

import pytest

import winnow.catalogue.records
from winnow.catalogue.records import RecordFile


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "records"


@pytest.mark.parametrize("scanned_bytes", [1, 3, 1 << 20])
def test_records_are_found_by_row(path: Path, scanned_bytes: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(winnow.catalogue.records, "SCANNED_BYTES", scanned_bytes)
    path.write_bytes(b"first\n\nthird\n")
    records = RecordFile(path, b"\n", 3)
    assert [records[row] for row in range(3)] == [b"first", b"", b"third"]
    assert records.read(1, 3) == b"\nthird\n"
    assert [records.start(row) for row in range(4)] == [0, 6, 7, 13]
    assert [records.row_at(offset) for offset in (0, 5, 6, 7, 12, 13, 1 << 40)] == [0, 0, 1, 2, 2, 3, 3]


@pytest.mark.parametrize(("content", "count"), [(b"a\nb\n", 1), (b"a\nb\n", 3), (b"a\nb", 2), (b"", 1)])
def test_any_other_number_of_records_is_refused(path: Path, content: bytes, count: int) -> None:
    path.write_bytes(content)
    with pytest.raises(ValueError, match=f"records has {content.count(10)} records for {count} items"):
        RecordFile(path, b"\n", count)


def test_a_file_that_is_shortened_meanwhile_is_an_error(path: Path) -> None:
    """Mapped into memory, it would end the process."""
    path.write_bytes(b"first\n" * 10_000)
    records = RecordFile(path, b"\n", 10_000)
    with path.open("r+b") as file:
        file.truncate(8)
    assert records[0] == b"first"
    with pytest.raises(OSError, match="records is shorter than when it was opened"):
        records[9_000]


def test_a_file_that_is_removed_can_still_be_read(path: Path) -> None:
    path.write_bytes(b"first\n")
    records = RecordFile(path, b"\n", 1)
    path.unlink()
    assert records[0] == b"first"


def test_a_record_takes_four_bytes_of_memory(path: Path) -> None:
    path.write_bytes(b"\n" * 1000)
    assert RecordFile(path, b"\n", 1000)._ends.nbytes == 4000
