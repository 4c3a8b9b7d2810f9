"""One of several processes that read a log together: it writes down what it knows then.

Arguments: the directory to write to, and the logs.
"""

import sys
from pathlib import Path

import numpy as np
import torch

from winnow.training.distributed.processes import Processes, joined_processes
from winnow.training.distributed.read_own_part import read_own_part
from winnow.training.distributed.sharded_quantiles import sharded_quantile_edges

VOCABULARY_SIZE, MIN_ITEM_COUNT, RANGE_COUNT = 9, 3, 7


def read_and_write(log: Path, target: Path, processes: Processes) -> None:
    """Read the own part of a log, and write it and what is known of the whole to a file."""
    own = read_own_part(log, processes, vocabulary_size=VOCABULARY_SIZE, min_item_count=MIN_ITEM_COUNT)
    training, validation = own.split.training, own.split.validation
    np.savez(
        target,
        users=own.users,
        lengths=own.lengths,
        log_lengths=own.log_lengths,
        time_span=np.array(own.time_span),
        rows=training.rows,
        own_lengths=training.lengths,
        weights=training.weights,
        times=training.timestamps,
        validation_users=validation.users,
        validation_targets=validation.targets,
        items=np.array(own.vocabulary.item_ids(range(len(own.vocabulary)))),
        watch_counts=own.watch_counts(),
        fingerprint=np.array(own.fingerprint),
        rows_read=np.array(repr(own.rows)),
        statistics=np.array(repr(own.statistics())),
        edges=np.array(sharded_quantile_edges(training.weights, RANGE_COUNT, processes)),
        gathered=own.gathered(training.rows, np.arange(len(own.lengths))[::-2]),
    )


if __name__ == "__main__":
    with joined_processes(torch.device("cpu")) as joined:
        for path in map(Path, sys.argv[2:]):
            read_and_write(path, Path(sys.argv[1]) / f"{path.name}-{joined.rank}.npz", joined)
