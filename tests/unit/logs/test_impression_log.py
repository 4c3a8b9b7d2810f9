from pathlib import Path

import numpy as np
import pytest

from tests.unit.training.planted import write_planted_impressions, write_planted_log
from winnow.logs.impression_log import ImpressionLog, ImpressionSplit
from winnow.logs.impressions import Impressions, read_impressions
from winnow.logs.input_table import InputFileError
from winnow.logs.interactions import read_interactions


def read(directory: Path) -> ImpressionLog:
    interactions = read_interactions(directory / "log.csv", vocabulary_size=1000, min_item_count=1)
    return ImpressionLog.read(directory / "impressions.csv", interactions, validation_share=0.2, test_share=0.2)


@pytest.fixture
def planted(tmp_path: Path) -> Path:
    write_planted_log(tmp_path / "log.csv")
    write_planted_impressions(tmp_path)
    return tmp_path


def two_each_second(directory: Path) -> Impressions:
    (directory / "watches.csv").write_text("user_id,item_id,timestamp\nu,a,10\n")
    lines = "".join(f"u,a,{number // 2},false,0\n" for number in range(21))
    (directory / "impressions.csv").write_text(f"user_id,item_id,timestamp,clicked,watch_seconds\n{lines}")
    interactions = read_interactions(directory / "watches.csv", vocabulary_size=10, min_item_count=1)
    return read_impressions(directory / "impressions.csv", interactions)


def test_the_split_is_by_time_and_never_within_a_second(tmp_path: Path) -> None:
    split = ImpressionSplit.by_time(two_each_second(tmp_path), validation_share=0.2, test_share=0.3)
    parts = [np.unique(part.timestamps).tolist() for part in (split.training, split.validation, split.test)]
    assert parts == [[0, 1, 2, 3, 4], [5, 6], [7, 8, 9, 10]]


def test_the_watches_before_the_first_impression_are_split_by_user(planted: Path) -> None:
    log = read(planted)
    # The planted impressions are a day later than all of the twelve watches of each of 80 users.
    assert log.earlier_watches.training.lengths.tolist() == [10] * 80
    assert log.popularity.sum() == pytest.approx(1)
    parts = log.impressions.training, log.impressions.validation, log.impressions.test
    assert [len(part) for part in parts] == [576, 192, 192]


def test_a_log_without_anything_to_learn_from_is_refused(planted: Path) -> None:
    impressions = planted / "impressions.csv"
    lines = impressions.read_text()
    impressions.write_text(lines.replace("True", "False"))
    with pytest.raises(InputFileError, match="the training part has no watched impression"):
        read(planted)
    impressions.write_text(lines)
    watches = (planted / "log.csv").read_text().splitlines()
    later = [watches[0], *(f"{line}000000" for line in watches[1:] if not line.endswith(",0"))]
    (planted / "log.csv").write_text("\n".join(later) + "\n")
    with pytest.raises(InputFileError, match="no watch of the interaction log is earlier"):
        read(planted)


def test_too_few_watches_before_the_first_impression_are_refused(planted: Path) -> None:
    watches = (planted / "log.csv").read_text().splitlines()
    two_of_each_user = [line for line in watches if line.endswith(("timestamp", ",0", ",1"))]
    (planted / "log.csv").write_text("\n".join(two_of_each_user) + "\n")
    with pytest.raises(InputFileError, match="the watches before the first impression: too few watches"):
        read(planted)
