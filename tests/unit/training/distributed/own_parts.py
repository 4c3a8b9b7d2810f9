"""All of the planted log, as the part of one process."""

import numpy as np

from tests.unit.training.planted import planted_histories
from tests.unit.training.trainees import ITEM_COUNT
from winnow.catalogue.vocabulary import Vocabulary
from winnow.logs.skipped_rows import RowsRead
from winnow.training.distributed.own_part import OwnPart
from winnow.training.distributed.processes import Processes


def whole_log(processes: Processes) -> OwnPart:
    histories = planted_histories()
    return OwnPart.of(
        histories,
        np.arange(len(histories)),
        histories.lengths,
        processes,
        source="log.csv",
        vocabulary=Vocabulary([f"item {row}" for row in range(ITEM_COUNT)]),
        fingerprint="planted",
        rows=RowsRead(row_count=len(histories.rows)),
    )
