"""KuaiRand-Pure: short-video impressions with click and play time, and what each user had watched before them.

It is read from a local folder of Parquet files, a part of the public data set: `val.parquet` and `test.parquet` have
the impressions, `user_sequences.parquet` up to 50 earlier watches of each user, `item_features.parquet` the videos. Of
the last file, only columns that were known when a video was uploaded are read: its counts cover the whole period, the
impressions to predict included.
"""

from dataclasses import dataclass
from pathlib import Path

import polars as pl

from winnow.logs.datasets.movielens import DataSet

LICENCE = (
    "KuaiRand-Pure is a part of KuaiRand, made by the University of Science and Technology of China and Kuaishou "
    "(https://kuairand.com), under CC BY-SA 4.0. Please cite C. Gao et al., KuaiRand: An Unbiased Sequential "
    "Recommendation Dataset with Randomly Exposed Videos, CIKM 2022."
)
IMPRESSION_FILES = ("val.parquet", "test.parquet")
EARLIER_WATCHES_FILE = "user_sequences.parquet"
VIDEOS_FILE = "item_features.parquet"
FILES = (*IMPRESSION_FILES, EARLIER_WATCHES_FILE, VIDEOS_FILE)

UNKNOWN_TAG = "unknown"
# Upload dates are days of this time zone.
TIME_ZONE = "Asia/Shanghai"
MILLISECONDS_PER_SECOND = 1000


class FolderError(ValueError):
    """The folder does not have the data set; the message says what is missing."""


@dataclass(frozen=True, kw_only=True)
class ImpressionDataSet(DataSet):
    """The files of a converted data set of impressions.

    `interactions` has no weight. Only the order of the watches before the impressions is known: those of a user are in
    that order, and all have the timestamp of the last one.
    """

    @property
    def impressions(self) -> Path:
        """user_id, item_id, timestamp (seconds since 1970), clicked, watch_seconds (0 unless clicked); by time."""
        return self.directory / "impressions.parquet"

    @property
    def complete(self) -> bool:
        """Whether all files exist. Each is renamed into place when it is complete."""
        return super().complete and self.impressions.is_file()


def convert(folder: Path, directory: Path) -> ImpressionDataSet:
    """Convert a local copy into `directory`/kuairand-pure. Raises FolderError."""
    missing = [name for name in FILES if not (folder / name).is_file()]
    if missing:
        raise FolderError(f"{folder} is not a folder of KuaiRand-Pure: it has no {', '.join(missing)}")
    try:
        impressions = read_impressions(folder)
        watches = read_watches(folder, impressions)
        items = read_items(folder)
    except pl.exceptions.PolarsError as error:
        raise FolderError(f"{folder} cannot be read: {str(error).splitlines()[0]}") from None
    data_set = data_set_in(directory)
    data_set.write({data_set.items: items, data_set.impressions: impressions, data_set.interactions: watches})
    return data_set


def data_set_in(directory: Path) -> ImpressionDataSet:
    """Return where the converted files are, or will be, in `directory`."""
    return ImpressionDataSet(directory=directory / "kuairand-pure")


def read_impressions(folder: Path) -> pl.DataFrame:
    """Return the impressions in time order, each once: some occur twice in the files."""
    columns = ["user_id", "video_id", "time_ms", "is_click", "play_time_ms"]
    frames = [pl.read_parquet(folder / name, columns=columns) for name in IMPRESSION_FILES]
    logged = pl.concat(frames).unique(["user_id", "video_id", "time_ms"], keep="first", maintain_order=True)
    clicked = pl.col("is_click") == 1
    return logged.sort("time_ms", maintain_order=True).select(
        pl.col("user_id").cast(pl.String),
        pl.col("video_id").cast(pl.String).alias("item_id"),
        (pl.col("time_ms") / MILLISECONDS_PER_SECOND).alias("timestamp"),
        clicked.alias("clicked"),
        # A video that starts by itself and is scrolled away has not been watched.
        pl.when(clicked).then(pl.col("play_time_ms") / MILLISECONDS_PER_SECOND).otherwise(0.0).alias("watch_seconds"),
    )


def read_watches(folder: Path, impressions: pl.DataFrame) -> pl.DataFrame:
    """Return the earlier watches, in order for each user, and then the impressions that were clicked."""
    sequences = pl.read_parquet(folder / EARLIER_WATCHES_FILE, columns=["user_id", "watch_seq", "last_time_ms"])
    earlier = sequences.explode("watch_seq").drop_nulls("watch_seq")
    return pl.concat(
        [
            earlier.select(
                pl.col("user_id").cast(pl.String),
                pl.col("watch_seq").cast(pl.String).alias("item_id"),
                (pl.col("last_time_ms") / MILLISECONDS_PER_SECOND).alias("timestamp"),
            ),
            impressions.filter("clicked").select("user_id", "item_id", "timestamp"),
        ]
    )


def read_items(folder: Path) -> pl.DataFrame:
    """Return what was known about each video when it was uploaded. Its category is its first tag."""
    columns = ["video_id", "author_id", "upload_dt", "video_duration", "tag"]
    videos = pl.read_parquet(folder / VIDEOS_FILE, columns=columns)
    tag = pl.col("tag").str.split(",").list.first()
    midnight = pl.col("upload_dt").str.head(10).str.to_datetime("%Y-%m-%d", time_zone=TIME_ZONE)
    return videos.select(
        pl.col("video_id").cast(pl.String).alias("item_id"),
        pl.format("Video {}", "video_id").alias("title"),
        pl.col("author_id").cast(pl.String).alias("author"),
        pl.when(tag != UNKNOWN_TAG).then(tag).alias("category"),
        midnight.dt.epoch("s").alias("uploaded"),
        (pl.col("video_duration") / MILLISECONDS_PER_SECOND).alias("duration_seconds"),
    )
