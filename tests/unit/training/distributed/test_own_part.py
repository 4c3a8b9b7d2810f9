from dataclasses import replace

import numpy as np
import pytest

from tests.unit.training.distributed.own_parts import whole_log
from tests.unit.training.planted import planted_histories
from tests.unit.training.trainees import ITEM_COUNT, SPLIT
from winnow.catalogue.vocabulary import Vocabulary
from winnow.history import WatchHistories
from winnow.logs.input_table import InputFileError
from winnow.logs.interactions import Interactions
from winnow.logs.skipped_rows import RowsRead
from winnow.logs.statistics import LogStatistics
from winnow.training.distributed.own_part import OwnPart
from winnow.training.distributed.processes import Processes


def test_the_part_of_the_only_process_is_the_log(alone: Processes) -> None:
    own = whole_log(alone)
    np.testing.assert_array_equal(own.lengths, SPLIT.training.lengths)
    for ours, theirs in ((own.split.validation, SPLIT.validation), (own.split.test, SPLIT.test)):
        np.testing.assert_array_equal(ours.targets, theirs.targets)
        np.testing.assert_array_equal(ours.users, theirs.users)
        np.testing.assert_array_equal(ours.histories.rows, theirs.histories.rows)
    assert own.split.description == SPLIT.description
    assert own.time_span == (SPLIT.training.timestamps.min(), SPLIT.training.timestamps.max())
    assert own.statistics() == LogStatistics.of(SPLIT.training, ITEM_COUNT)
    np.testing.assert_array_equal(own.watch_counts(), SPLIT.watch_counts(ITEM_COUNT))


def test_users_are_numbered_as_in_the_log(alone: Processes) -> None:
    """A process that has every third user: the others' are known by their lengths."""
    histories = planted_histories()
    users = np.arange(1, len(histories), 3)
    whole = whole_log(alone)
    own = OwnPart.of(
        histories.take(histories.offsets[users], histories.lengths[users]), users, histories.lengths, alone,
        source="log.csv", vocabulary=whole.vocabulary, fingerprint=whole.fingerprint, rows=whole.rows,
    )  # fmt: skip
    numbers = own.own_of_lists(own.lengths)
    np.testing.assert_array_equal(own.split.training.rows, SPLIT.training.rows[numbers])
    np.testing.assert_array_equal(own.split.training.timestamps, SPLIT.training.timestamps[numbers])
    here = np.isin(SPLIT.validation.users, users)
    np.testing.assert_array_equal(own.split.validation.users, SPLIT.validation.users[here])
    np.testing.assert_array_equal(own.split.validation.targets, SPLIT.validation.targets[here])
    assert own.here()[users].tolist() == list(range(len(users)))
    assert (np.delete(own.here(), users) == -1).all()


def test_watches_of_some_users_are_gathered_in_the_order_asked_for(alone: Processes) -> None:
    users = np.array([5, 0, 79, 3])
    expected = np.concatenate([SPLIT.training[user] for user in users.tolist()])
    own = whole_log(alone)
    np.testing.assert_array_equal(own.gathered(own.split.training.rows, users), expected)


def test_a_log_that_changes_during_the_training_is_noticed(alone: Processes) -> None:
    own, histories = whole_log(alone), planted_histories()
    log = Interactions(
        vocabulary=own.vocabulary,
        user_ids=[f"user {number}" for number in range(len(histories))],
        histories=histories,
        fingerprint="",
        rows=RowsRead(row_count=0),
    )
    own.check_same(log, "log.csv")
    longer = WatchHistories.concatenate([histories, histories.slice(0, 1)])
    for changed in (replace(log, histories=longer), replace(log, vocabulary=Vocabulary(["another item"]))):
        with pytest.raises(InputFileError, match=r"log\.csv has changed since the training began"):
            own.check_same(changed, "log.csv")
