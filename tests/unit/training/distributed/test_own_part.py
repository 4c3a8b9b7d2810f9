import numpy as np
import torch

from tests.unit.training.trainees import SPLIT
from winnow.training.distributed.own_part import OwnPart
from winnow.training.distributed.processes import Processes

USER_IDS = [f"user {number}" for number in range(len(SPLIT.training))]


def test_every_user_with_all_watches_is_of_one_process() -> None:
    parts = [
        OwnPart.of(SPLIT, USER_IDS, Processes(rank=rank, count=3, device=torch.device("cpu"))) for rank in range(3)
    ]
    assert sorted(np.concatenate([part.users for part in parts]).tolist()) == list(range(len(USER_IDS)))
    for part in parts:
        assert part.split.training.lengths.tolist() == SPLIT.training.lengths[part.users].tolist()
        # Numbers among all watches: those of the users here, as in the whole log.
        numbers = part.own_of_lists(part.lengths)
        np.testing.assert_array_equal(part.split.training.rows, SPLIT.training.rows[numbers])
        np.testing.assert_array_equal(part.split.training.timestamps, SPLIT.training.timestamps[numbers])
        for held_out, own in ((SPLIT.validation, part.split.validation), (SPLIT.test, part.split.test)):
            here = np.isin(held_out.users, part.users)
            np.testing.assert_array_equal(own.targets, held_out.targets[here])
            assert [own.histories[at].tolist() for at in range(len(own))] == [
                held_out.histories[at].tolist() for at in np.flatnonzero(here).tolist()
            ]
        assert part.time_span == (SPLIT.training.timestamps.min(), SPLIT.training.timestamps.max())
