import shutil
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from typer.testing import CliRunner

from winnow.commands.data import data_app
from winnow.logs.datasets import recflow
from winnow.logs.datasets.kuairand import FolderError
from winnow.logs.impression_log import ImpressionLog
from winnow.logs.interactions import read_interactions

DAYS = tuple(f"2024-01-{day}" for day in range(13, 20))
# The columns of the data set, in its order.
ALL_COLUMNS = (
    "request_id", "user_id", "request_timestamp", "device_id", "age", "gender", "province", "video_id", "author_id",
    "category_level_two", "upload_type", "upload_timestamp", "category_level_one", "duration", "realshow", "rerank_pos",
    "rerank_neg", "rank_pos", "rank_neg", "coarse_neg", "prerank_neg", "rank_index", "rerank_index", "playing_time",
    "effective_view", "long_view", "like", "follow", "forward", "comment",
)  # fmt: skip


def row(day: int, request: int, video: int, **values: Any) -> dict[str, int]:
    """What a stage saw; by default it was shown and hardly watched. Each user has one request a day."""
    return dict.fromkeys(ALL_COLUMNS, 0) | {
        "request_id": 10 * day + request,
        "user_id": 100 + request,
        "request_timestamp": 1_705_104_000_000 + 86_400_000 * day + 500 * request,
        "video_id": video,
        "author_id": video // 10,
        "category_level_one": 3,
        "category_level_two": 4,
        "upload_timestamp": 1_704_000_000 + video,
        "duration": 20_000,
        "realshow": 1,
        "playing_time": 900,
        **values,
    }


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "recflow"
    for name in ("realshow", "all_stage"):
        (path / name).mkdir(parents=True)
    for day, name in enumerate(DAYS):
        shown = [
            row(day, 2, 21 if day else 15, effective_view=1, playing_time=15_250),
            row(day, 1, 40 + day, effective_view=1, playing_time=8_000),
            row(day, 1, 15),
            # Twice in one request.
            row(day, 1, 15, effective_view=1),
        ]
        unshown = [
            row(day, request, 30 + number, realshow=0, playing_time=-1, effective_view=-1, **{stage: 1})
            for request in (1, 2)
            for number, stage in enumerate(recflow.STAGES)
        ]
        write(path / "realshow" / f"{name}.feather", shown)
        write(path / "all_stage" / f"{name}.feather", shown + unshown)
    return path


def write(path: Path, rows: list[dict[str, int]]) -> None:
    # The files of the data set were written by pandas, with compression.
    pl.DataFrame(rows, schema=dict.fromkeys(ALL_COLUMNS, pl.Int64)).write_ipc(path, compression="lz4")


def choice(**values: Any) -> recflow.Choice:
    defaults: dict[str, Any] = {"impression_days": 2, "unshown": {}}
    return recflow.Choice(**defaults | values)


def test_watches_are_the_effective_views_of_all_days_and_impressions_what_was_shown_on_the_last(
    folder: Path, tmp_path: Path
) -> None:
    data_set = recflow.convert(folder, tmp_path / "data", choice(impression_days=1))
    start = 1_705_104_000
    assert pl.read_parquet(data_set.interactions).rows() == [
        found
        for day in range(len(DAYS))
        for found in (
            ("101", str(40 + day), start + 86_400 * day + 0.5, 8.0),
            ("102", "21" if day else "15", start + 86_400 * day + 1.0, 15.25),
        )
    ]
    assert pl.read_parquet(data_set.impressions).rows() == [
        ("101", "46", start + 6 * 86_400 + 0.5, True, 8.0),
        ("101", "15", start + 6 * 86_400 + 0.5, False, 0.0),
        ("102", "21", start + 6 * 86_400 + 1.0, True, 15.25),
    ]
    items = pl.read_parquet(data_set.items)
    assert items["item_id"].to_list() == ["15", "40", "21", "41", "42", "43", "44", "45", "46"]
    assert items.to_dicts()[0] == {
        "item_id": "15", "title": "Video 15", "author": "1", "category": "3", "subcategory": "4",
        "uploaded": 1_704_000_015, "duration_seconds": 20.0,
    }  # fmt: skip


def test_what_a_stage_did_not_pass_on_becomes_impressions_without_a_click(folder: Path, tmp_path: Path) -> None:
    plain = recflow.convert(folder, tmp_path / "plain", choice())
    data_set = recflow.convert(folder, tmp_path / "data", choice(unshown={"rank_neg": 1, "prerank_neg": 3}))
    assert pl.read_parquet(plain.interactions).equals(pl.read_parquet(data_set.interactions))
    impressions = pl.read_parquet(data_set.impressions)
    added = impressions.join(pl.read_parquet(plain.impressions), on=impressions.columns, how="anti")
    assert impressions.height - added.height == pl.read_parquet(plain.impressions).height
    # Two requests on each of two days, of which each has one such video of each stage.
    assert sorted(added["item_id"].to_list()) == ["31"] * 4 + ["33"] * 4
    assert not added["clicked"].any()
    assert added["watch_seconds"].to_list() == [0.0] * 8
    assert {"31", "33"} <= {*pl.read_parquet(data_set.items)["item_id"]}


def test_training_reads_the_converted_files(folder: Path, tmp_path: Path) -> None:
    data_set = recflow.convert(folder, tmp_path / "data", choice(impression_days=3))
    interactions = read_interactions(data_set.interactions, vocabulary_size=100, min_item_count=1)
    log = ImpressionLog.read(data_set.impressions, interactions, validation_share=1 / 3, test_share=1 / 3)
    assert log.earlier_watches.training.lengths.tolist() == [2, 2]
    assert [len(part) for part in (log.impressions.training, *log.impressions.held_out.values())] == [3, 3, 3]


@pytest.mark.parametrize(
    ("broken", "chosen", "reason"),
    [
        (lambda folder: None, choice(impression_days=7), "none is left for the watches before them"),
        (lambda folder: None, choice(day_count=2), "2 days are read"),
        (lambda folder: (folder / "all_stage" / f"{DAYS[6]}.feather").unlink(), choice(unshown={"rank_neg": 1}),
         "has no all_stage/2024-01-19.feather"),
        (lambda folder: shutil.rmtree(folder / "realshow"), choice(), "not a folder of RecFlow"),
        (lambda folder: pl.DataFrame({"user_id": [1]}).write_ipc(folder / "realshow" / f"{DAYS[0]}.feather"), choice(),
         "cannot be read"),
    ],
)  # fmt: skip
def test_what_is_wrong_with_a_folder_is_named(
    folder: Path, tmp_path: Path, broken: Any, chosen: recflow.Choice, reason: str
) -> None:
    broken(folder)
    with pytest.raises(FolderError, match=reason):
        recflow.convert(folder, tmp_path / "data", chosen)
    assert not (tmp_path / "data").exists()


def test_the_command_prints_the_licence(folder: Path, tmp_path: Path) -> None:
    arguments = ["recflow", "--from", str(folder), "--directory", str(tmp_path / "data"), "--impression-days", "2"]
    done = CliRunner().invoke(data_app, [*arguments, "--unshown", "rank_neg:1"])
    assert done.exit_code == 0, done.output
    assert "CC BY-SA 4.0" in done.output
    assert (tmp_path / "data" / "recflow" / "impressions.parquet").is_file()
    for text, reason in (
        ("shown:1", "there is no stage 'shown'"),
        ("rank_neg", "how many videos"),
        ("rank_neg:0", "how"),
    ):
        refused = CliRunner().invoke(data_app, [*arguments, "--unshown", text])
        assert refused.exit_code == 2
        assert reason in refused.output
