from pathlib import Path

import polars as pl
import pytest
from typer.testing import CliRunner

from winnow.commands.data import data_app
from winnow.logs.datasets import kuairand


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "kuairand"
    path.mkdir()
    columns = ["user_id", "video_id", "time_ms", "is_click", "play_time_ms"]

    def impressions(name: str, rows: list[tuple[int, ...]]) -> None:
        pl.DataFrame(rows, schema=columns, orient="row").write_parquet(path / name)

    impressions("val.parquet", [(1, 7, 1_650_900_000_500, 1, 61_500), (2, 8, 1_650_800_000_000, 0, 1_200)])
    # The first one is in both files.
    impressions("test.parquet", [(1, 7, 1_650_900_000_500, 1, 61_500), (1, 8, 1_651_000_000_000, 1, 0)])
    pl.DataFrame(
        {"user_id": [1, 2], "watch_seq": [[8, 7, 8], []], "last_time_ms": [1_650_700_000_000, 1_650_700_000_000]},
        schema_overrides={"watch_seq": pl.List(pl.Int64)},
    ).write_parquet(path / "user_sequences.parquet")
    pl.DataFrame(
        {
            "video_id": [7, 8],
            "author_id": [70, 80],
            "upload_dt": ["2022-04-10", "2022-04-09"],
            "video_duration": [87_433.0, None],
            "tag": ["39,68", "unknown"],
            "play_cnt": [1e6, 2e6],
        }
    ).write_parquet(path / "item_features.parquet")
    return path


def test_impressions_occur_once_in_time_order_and_only_clicks_are_watches(folder: Path, tmp_path: Path) -> None:
    data_set = kuairand.convert(folder, tmp_path / "data")
    assert pl.read_parquet(data_set.impressions).rows() == [
        ("2", "8", 1_650_800_000.0, False, 0.0),
        ("1", "7", 1_650_900_000.5, True, 61.5),
        ("1", "8", 1_651_000_000.0, True, 0.0),
    ]
    assert pl.read_parquet(data_set.interactions).rows() == [
        ("1", "8", 1_650_700_000.0),
        ("1", "7", 1_650_700_000.0),
        ("1", "8", 1_650_700_000.0),
        ("1", "7", 1_650_900_000.5),
        ("1", "8", 1_651_000_000.0),
    ]
    assert data_set.complete


def test_of_the_videos_only_what_was_known_at_their_upload_is_kept(folder: Path, tmp_path: Path) -> None:
    data_set = kuairand.convert(folder, tmp_path / "data")
    assert pl.read_parquet(data_set.items).to_dicts() == [
        {"item_id": "7", "title": "Video 7", "author": "70", "category": "39",
         "uploaded": 1_649_520_000, "duration_seconds": 87.433},
        {"item_id": "8", "title": "Video 8", "author": "80", "category": None,
         "uploaded": 1_649_433_600, "duration_seconds": None},
    ]  # fmt: skip


def test_the_command_prints_the_licence_and_names_what_is_missing(folder: Path, tmp_path: Path) -> None:
    arguments = ["kuairand-pure", "--from", str(folder), "--directory", str(tmp_path / "data")]
    done = CliRunner().invoke(data_app, arguments)
    assert done.exit_code == 0, done.output
    assert "CC BY-SA 4.0" in done.output
    (folder / "val.parquet").unlink()
    failed = CliRunner().invoke(data_app, arguments)
    assert failed.exit_code == 1
    assert "it has no val.parquet" in failed.output


@pytest.mark.shared_data
def test_the_real_data_set_is_read_as_it_is_described(tmp_path: Path) -> None:
    shared = Path(__file__).parents[5] / "shared" / "data" / "kuairand-pure"
    if not shared.is_dir():
        pytest.skip(f"KuaiRand-Pure is not in {shared}: its reader is tested on the small folder above only")
    data_set = kuairand.convert(shared, tmp_path)
    impressions = pl.read_parquet(data_set.impressions)
    assert impressions.height == 94_784 + 133_545 - 5_885
    assert impressions["timestamp"].is_sorted()
    assert impressions["clicked"].mean() == pytest.approx(0.4496, abs=1e-4)
    assert pl.read_parquet(data_set.interactions).height == 817_187 + impressions["clicked"].sum()
    assert pl.read_parquet(data_set.items)["uploaded"].null_count() == 0
