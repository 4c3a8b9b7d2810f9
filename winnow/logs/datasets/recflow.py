"""RecFlow: requests to a short-video feed with what each of its six stages passed on, and what was shown and watched.

It is read from a local copy of the folder at https://github.com/RecFlow-ICLR/RecFlow, which describes the columns:
`realshow` has one Feather file a day of what was shown, `all_stage` one of what reached any stage. Times of requests,
playing times and durations are milliseconds, times of uploads are seconds.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from winnow.logs.datasets.kuairand import MILLISECONDS_PER_SECOND, FolderError, ImpressionDataSet

LICENCE = (
    "RecFlow is made by the University of Science and Technology of China and Kuaishou "
    "(https://github.com/RecFlow-ICLR/RecFlow), under CC BY-SA 4.0. Please cite Q. Liu et al., RecFlow: An Industrial "
    "Full Flow Recommendation Dataset, ICLR 2025."
)
SHOWN_FOLDER, STAGES_FOLDER = "realshow", "all_stage"
# Columns of what a stage did not pass on, from the last stage to the first.
STAGES = ("rerank_neg", "rank_neg", "coarse_neg", "prerank_neg")
REQUEST_COLUMNS = ("request_id", "request_timestamp", "user_id", "video_id")
VIDEO_COLUMNS = ("author_id", "category_level_one", "category_level_two", "upload_timestamp", "duration")
COLUMNS = (*REQUEST_COLUMNS, *VIDEO_COLUMNS, "effective_view", "playing_time")
IMPRESSION_DAYS = 7
SEED = 1


@dataclass(frozen=True, kw_only=True)
class Choice:
    """What is taken of the data set.

    `day_count` is how many of the last days are read; None is all. Of `impression_days` of them, the last, all that was
    shown becomes impressions; of the others only the watches are kept. `unshown` adds impressions without a click that
    nobody saw: for each of these STAGES, that many videos per request on average, drawn from what it did not pass on.
    """

    day_count: int | None = None
    impression_days: int = IMPRESSION_DAYS
    unshown: Mapping[str, int]


def read_unshown(text: str) -> dict[str, int]:
    """Read `STAGE:COUNT,STAGE:COUNT`. Raises ValueError."""
    found = {}
    for part in filter(None, map(str.strip, text.split(","))):
        stage, _, count = part.partition(":")
        if stage not in STAGES:
            raise ValueError(f"there is no stage {stage!r}, only {', '.join(STAGES)}")
        if not count.isdecimal() or int(count) < 1:
            raise ValueError(f"{part!r} does not say how many videos per request, as in '{stage}:2'")
        found[stage] = int(count)
    return found


def convert(folder: Path, directory: Path, choice: Choice) -> ImpressionDataSet:
    """Convert a local copy into `directory`/recflow. Raises FolderError."""
    days = _days(folder, choice)
    try:
        frames = [_shown(folder, day) for day in days]
        shown = pl.concat(frames)
        late = pl.concat(frames[-choice.impression_days :])
        unshown = _unshown(folder, days[-choice.impression_days :], late, choice.unshown)
    except pl.exceptions.PolarsError as error:
        raise FolderError(f"{folder} cannot be read: {str(error).splitlines()[0]}") from None
    data_set = ImpressionDataSet(directory=directory / "recflow")
    data_set.write(
        {
            data_set.items: _items(pl.concat([shown, unshown])),
            data_set.impressions: _impressions(pl.concat([late, unshown])),
            data_set.interactions: _watches(shown),
        }
    )
    return data_set


def _days(folder: Path, choice: Choice) -> list[str]:
    """Return the names of the files that are read, in time order."""
    days = sorted(path.name for path in (folder / SHOWN_FOLDER).glob("*.feather"))
    days = days if choice.day_count is None else days[-choice.day_count :]
    if not days:
        raise FolderError(f"{folder} is not a folder of RecFlow: it has no {SHOWN_FOLDER}/*.feather")
    if len(days) <= choice.impression_days:
        raise FolderError(
            f"{folder}: {len(days)} days are read, and the last {choice.impression_days} become impressions: none is "
            "left for the watches before them"
        )
    missing = [day for day in days[-choice.impression_days :] if not (folder / STAGES_FOLDER / day).is_file()]
    if choice.unshown and missing:
        raise FolderError(f"{folder} has no {STAGES_FOLDER}/{missing[0]}, from which unshown videos are drawn")
    return days


def _shown(folder: Path, day: str) -> pl.DataFrame:
    """Return what was shown on a day, each video once a request."""
    shown = _read(folder / SHOWN_FOLDER / day, COLUMNS)
    return shown.unique(["request_id", "video_id"], keep="first", maintain_order=True)


def _unshown(folder: Path, days: Sequence[str], shown: pl.DataFrame, counts: Mapping[str, int]) -> pl.DataFrame:
    """Draw what was not shown, of days whose requests are in `shown`, and call it not viewed."""
    drawn = [shown.clear()]
    for day in days if counts else ():
        staged = _read(folder / STAGES_FOLDER / day, (*COLUMNS, "realshow", *counts)).filter(pl.col("realshow") == 0)
        request_count = staged["request_id"].n_unique()
        for stage, count in counts.items():
            of_stage = staged.filter(pl.col(stage) == 1).select(COLUMNS)
            drawn.append(of_stage.sample(min(of_stage.height, count * request_count), seed=SEED))
    nothing = {"effective_view": pl.lit(0), "playing_time": pl.lit(0)}
    unshown = pl.concat(drawn).unique(["request_id", "video_id"], keep="first", maintain_order=True)
    return unshown.with_columns(value.cast(shown.schema[name]).alias(name) for name, value in nothing.items())


def _read(path: Path, columns: Sequence[str]) -> pl.DataFrame:
    """Return columns of a day as int64, whatever integers or floats they are in the file. Raises PolarsError."""
    return pl.read_ipc(path, columns=list(columns)).select(pl.col(name).cast(pl.Int64) for name in columns)


def _watches(shown: pl.DataFrame) -> pl.DataFrame:
    """Return the effective views, those of 30 % of a video or more, in time order, with the seconds as weight."""
    viewed = shown.filter(pl.col("effective_view") == 1).sort("request_timestamp", maintain_order=True)
    return viewed.select(*_ids_and_time(), _seconds("playing_time").alias("weight"))


def _impressions(shown: pl.DataFrame) -> pl.DataFrame:
    """Return impressions in time order. An effective view counts as a click, as in RecFlow's own experiments."""
    clicked = pl.col("effective_view") == 1
    return shown.sort("request_timestamp", maintain_order=True).select(
        *_ids_and_time(),
        clicked.alias("clicked"),
        pl.when(clicked).then(_seconds("playing_time")).otherwise(0.0).alias("watch_seconds"),
    )


def _items(shown: pl.DataFrame) -> pl.DataFrame:
    """Return the videos by their first appearance."""
    return shown.unique("video_id", keep="first", maintain_order=True).select(
        pl.col("video_id").cast(pl.String).alias("item_id"),
        pl.format("Video {}", "video_id").alias("title"),
        pl.col("author_id").cast(pl.String).alias("author"),
        pl.col("category_level_one").cast(pl.String).alias("category"),
        pl.col("category_level_two").cast(pl.String).alias("subcategory"),
        pl.col("upload_timestamp").alias("uploaded"),
        _seconds("duration").alias("duration_seconds"),
    )


def _ids_and_time() -> list[pl.Expr]:
    return [
        pl.col("user_id").cast(pl.String),
        pl.col("video_id").cast(pl.String).alias("item_id"),
        _seconds("request_timestamp").alias("timestamp"),
    ]


def _seconds(milliseconds: str) -> pl.Expr:
    return pl.col(milliseconds) / MILLISECONDS_PER_SECOND
