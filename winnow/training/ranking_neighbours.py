"""Adds the sums of nearest-neighbour recommenders to a trained ranking network, each as much as validation says.

Shape legend: B held-out watches, K candidates, U users.
"""

import itertools
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from winnow.evaluation.baselines import (
    LATEST_COUNT,
    NEIGHBOURS_PER_ITEM,
    RECENCY_DECAY,
    DenseSimilarity,
    SuccessionKnn,
    co_watch_cosines,
)
from winnow.evaluation.rank_figures import gains, means_of_users
from winnow.evaluation.ranks import ranked_blocks, ranks_among, rectangle
from winnow.evaluation.recommenders import Recommender
from winnow.history import RaggedRows
from winnow.logs.split import HeldOut
from winnow.networks.candidate import DeepCandidateGenerationModel
from winnow.networks.neighbours import Neighbours
from winnow.networks.options import NeighbourOptions
from winnow.networks.ranking import DeepRankingModel
from winnow.training.correction import larger_than_noise

# Weights of each table that are tried, all combinations; the least first.
WEIGHTS = (0.0, 1.0, 2.0, 4.0)
# Pairs of items in a table: 160 MB.
LARGEST_TABLE = 20_000_000
# Watches that are looked up where their order does not matter: as far as a network reads.
ALL_WATCHES = 1000


def neighbour_tables(rivals: Mapping[str, Recommender], training: RaggedRows, item_count: int) -> dict[str, Neighbours]:
    """Return the tables that are tried: what follows what, what the same users watch, and the largest weights of EASE.

    `rivals` are baselines that have learned from `training`; what is missing among them has no table.
    """
    tables = {"co_watches": _table(co_watch_cosines(training, item_count), ALL_WATCHES, 1.0)}
    for name, rival in rivals.items():
        if isinstance(rival, SuccessionKnn):
            tables[name] = _table(rival.following_II, LATEST_COUNT, RECENCY_DECAY)
        elif isinstance(rival, DenseSimilarity):
            tables[name] = _table(rival.largest(NEIGHBOURS_PER_ITEM), ALL_WATCHES, 1.0)
    return tables


def add_neighbours(
    candidate_network: DeepCandidateGenerationModel,
    ranking_network: DeepRankingModel,
    tables: Mapping[str, Neighbours],
    validation: HeldOut,
    *,
    candidate_count: int,
) -> tuple[DeepRankingModel, dict[str, float]]:
    """Return the network with the tables that help on validation, and the weight of each table; 0 is left out.

    The network has to add the logit of the candidate network: see Matching.
    """
    device = ranking_network.embedding.weight.device
    tables = {name: table.to(device) for name, table in tables.items()}
    weights = fit_weights(candidate_network, ranking_network, tables, validation, candidate_count=candidate_count)
    used = [tables[name] for name, weight in weights.items() if weight]
    for name, weight in weights.items():
        tables[name].weight.fill_(weight)
    matching = ranking_network.config.options.matching
    if not used or matching is None:
        return ranking_network, weights
    options = replace(
        ranking_network.config.options, matching=replace(matching, neighbours=tuple(table.options for table in used))
    )
    network = DeepRankingModel.from_config(replace(ranking_network.config, options=options)).to(device)
    of_tables = {
        f"matching.neighbours.{number}.{name}": values
        for number, table in enumerate(used)
        for name, values in table.state_dict().items()
    }
    network.load_state_dict({**ranking_network.state_dict(), **of_tables})
    return network.eval().requires_grad_(requires_grad=False), weights


@torch.inference_mode()
def fit_weights(
    candidate_network: DeepCandidateGenerationModel,
    ranking_network: DeepRankingModel,
    tables: Mapping[str, Neighbours],
    validation: HeldOut,
    *,
    candidate_count: int,
) -> dict[str, float]:
    """Choose the weight of each table by NDCG@10 on validation.

    All are 0 unless the gain over that is larger than its standard error.
    """
    combinations = list(itertools.product(WEIGHTS, repeat=len(tables)))
    gained: list[list[Any]] = [[] for _ in combinations]
    for block, candidates_BK, logits_BK in ranked_blocks(
        candidate_network, ranking_network, validation, candidate_count
    ):
        requests = ranking_network.pack(block.histories), rectangle(candidates_BK)
        added: list[Tensor] = [table.strengths(*requests).view_as(logits_BK) for table in tables.values()]
        for weights, of_weights in zip(combinations, gained, strict=True):
            scores_BK = logits_BK.clone()
            for weight, added_BK in zip(weights, added, strict=True):
                scores_BK += weight * added_BK
            of_weights.append(gains(ranks_among(candidates_BK, scores_BK, block)))
    means = [means_of_users(np.concatenate(of_weights), validation.users) for of_weights in gained]
    # Among equals the first.
    best = int(np.argmax([mean_U.mean() for mean_U in means]))
    if not larger_than_noise(means[best] - means[0]):
        best = 0
    return dict(zip(tables, combinations[best], strict=True))


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
