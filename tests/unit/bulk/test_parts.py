"""A file that is made part by part is whole or not there."""

from pathlib import Path

import polars as pl
import pytest

from winnow.bulk.parts import OutputError, PartedFile

JOB = {"log": "a", "count": 20}


def part(number: int) -> pl.DataFrame:
    return pl.DataFrame({"number": [10 * number, 10 * number + 1]})


@pytest.fixture
def output(tmp_path: Path) -> Path:
    return tmp_path / "out.parquet"


def test_a_name_with_brackets_is_a_name(tmp_path: Path) -> None:
    """For polars it is a pattern: it would read another file."""
    file = PartedFile(tmp_path / "out[1].parquet", 1, JOB)
    file.open()
    file.write(0, part(0))
    assert file.read(0, ["number"]).height == 2
    file.join()
    assert pl.read_parquet(tmp_path / "out[1].parquet", glob=False).height == 2


def test_parts_are_joined_in_order_and_removed(output: Path) -> None:
    file = PartedFile(output, 3, JOB)
    assert file.open() == [0, 1, 2]
    for number in (2, 0, 1):
        file.write(number, part(number))
    file.join()
    assert pl.read_parquet(output)["number"].to_list() == [0, 1, 10, 11, 20, 21]
    assert list(output.parent.iterdir()) == [output]


def test_the_same_job_continues_with_what_is_missing(output: Path) -> None:
    file = PartedFile(output, 3, JOB)
    file.open()
    file.write(1, part(1))
    assert not output.exists()
    assert PartedFile(output, 3, JOB).open() == [0, 2]


def test_what_a_crash_left_unfinished_does_not_count(output: Path) -> None:
    file = PartedFile(output, 2, JOB)
    file.open()
    file.write(0, part(0))
    directory = output.with_name("out.parquet.parts")
    (directory / "part-000001.parquet.unfinished").write_bytes(b"half")
    output.with_name("out.parquet.unfinished").write_bytes(b"half")
    again = PartedFile(output, 2, JOB)
    assert again.open() == [1]
    again.write(1, part(1))
    again.join()
    assert pl.read_parquet(output).height == 4
    assert list(output.parent.iterdir()) == [output]


def test_parts_of_another_job_are_not_mixed_in(output: Path) -> None:
    PartedFile(output, 3, JOB).open()
    with pytest.raises(OutputError, match="another log or of other options"):
        PartedFile(output, 3, JOB | {"count": 10}).open()
    with pytest.raises(OutputError, match="another log or of other options"):
        PartedFile(output, 4, JOB).open()


def test_an_output_that_exists_is_not_replaced(output: Path) -> None:
    output.write_bytes(b"yesterday's")
    with pytest.raises(OutputError, match="exists: remove it, or name another"):
        PartedFile(output, 1, JOB).open()
    assert output.read_bytes() == b"yesterday's"


def test_parts_left_over_from_a_joined_file_are_not_taken_for_a_new_run(output: Path) -> None:
    """The process died between the two last steps, and the output was moved away since."""
    file = PartedFile(output, 1, JOB)
    file.open()
    file.write(0, part(0))
    output.with_name("out.parquet.parts").joinpath("job.json").unlink()
    assert PartedFile(output, 1, JOB).open() == [0]
