"""Counts the tables of nearest-neighbour recommenders that are tried in both networks: see Neighbours."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from winnow.evaluation.baselines import (
    COUNTED_WATCH_LIMIT,
    LATEST_COUNT,
    NEIGHBOURS_PER_ITEM,
    RECENCY_DECAY,
    DenseSimilarity,
    SuccessionKnn,
    co_watch_cosines,
)
from winnow.evaluation.recommenders import Recommender
from winnow.history import RaggedRows
from winnow.networks.neighbours import Neighbours
from winnow.networks.options import NeighbourOptions

# Pairs of items in a table: 160 MB.
LARGEST_TABLE = 20_000_000
# Watches that are looked up where their order does not matter: as far as a network reads.
ALL_WATCHES = 1000


def neighbour_tables(rivals: Mapping[str, Recommender], training: RaggedRows, item_count: int) -> dict[str, Neighbours]:
    """Return the tables that are tried: what follows what, what the same users watch, and the largest weights of EASE.

    `rivals` are baselines that have learned from `training`; what is missing among them has no table. None is counted
    in a log of more than COUNTED_WATCH_LIMIT watches.
    """
    tables = {}
    if len(training.rows) <= COUNTED_WATCH_LIMIT:
        tables["co_watches"] = _table(co_watch_cosines(training, item_count), ALL_WATCHES, 1.0)
    for name, rival in rivals.items():
        if isinstance(rival, SuccessionKnn):
            tables[name] = _table(rival.following_II, LATEST_COUNT, RECENCY_DECAY)
        elif isinstance(rival, DenseSimilarity):
            tables[name] = _table(rival.largest(NEIGHBOURS_PER_ITEM), ALL_WATCHES, 1.0)
    return tables


def _table(matrix: Any, latest_count: int, recency_decay: float) -> Neighbours:
    """Build the table of the largest numbers of each row, what was watched, of a csr_matrix [I, I]."""
    item_count = matrix.shape[0]
    width = max(1, min(NEIGHBOURS_PER_ITEM, LARGEST_TABLE // item_count, int(np.diff(matrix.indptr).max(initial=0))))
    watched = np.repeat(np.arange(item_count), np.diff(matrix.indptr))
    order = np.lexsort((-matrix.data, watched))
    places = np.arange(len(order)) - matrix.indptr[:-1][watched]
    kept = order[places < width]
    rows_IK, values_IK = np.zeros((item_count, width), dtype=np.int32), np.zeros((item_count, width), dtype=np.float32)
    at = watched[kept], places[places < width]
    rows_IK[at], values_IK[at] = matrix.indices[kept], matrix.data[kept]
    options = NeighbourOptions(neighbour_count=width, latest_count=latest_count, recency_decay=recency_decay)
    table = Neighbours(item_count, options)
    table.fill(torch.from_numpy(rows_IK), torch.from_numpy(values_IK), weight=0.0)
    return table
