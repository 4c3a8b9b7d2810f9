"""Adds the sums of nearest-neighbour recommenders to a trained ranking network, each as much as validation says.

Shape legend: B held-out watches, K candidates, U users.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from winnow.evaluation.baselines import (
    COUNTED_WATCH_LIMIT,
    LATEST_COUNT,
    NEIGHBOURS_PER_ITEM,
    RECENCY_DECAY,
    DenseSimilarity,
    SuccessionKnn,
    co_watch_cosines,
)
from winnow.evaluation.rank_figures import gains, means_of_users
from winnow.evaluation.ranks import ranked_blocks, ranks_among, rectangle, seen_among
from winnow.evaluation.recommenders import Recommender
from winnow.history import RaggedRows
from winnow.logs.split import HeldOut
from winnow.networks.candidate import DeepCandidateGenerationModel
from winnow.networks.neighbours import Neighbours
from winnow.networks.options import NeighbourOptions
from winnow.networks.ranking import DeepRankingModel
from winnow.release.models.loader import build_network
from winnow.training.correction import larger_than_noise

# Of the likeliest weights, those that are tried.
SHARES = (0.25, 0.5, 0.75, 1.0)
# Pairs of items in a table: 160 MB.
LARGEST_TABLE = 20_000_000
# The logit of an item that is not ranked.
NEVER = -1e4
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


def add_neighbours(
    candidate_network: DeepCandidateGenerationModel,
    ranking_network: DeepRankingModel,
    tables: Mapping[str, Neighbours],
    validation: HeldOut,
    *,
    candidate_count: int,
) -> tuple[DeepRankingModel, dict[str, float]]:
    """Return the network with the tables that help on validation, and the weight of each table; 0 is left out.

    It shares its weights with `ranking_network`, which has to add the logit of the candidate network: see Matching.
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
    of_tables = {
        f"matching.neighbours.{number}.{name}": values
        for number, table in enumerate(used)
        for name, values in table.state_dict().items()
    }
    all_weights = {**ranking_network.state_dict(), **of_tables}
    return build_network(
        DeepRankingModel.from_config, replace(ranking_network.config, options=options), all_weights
    ), weights


@torch.inference_mode()
def fit_weights(
    candidate_network: DeepCandidateGenerationModel,
    ranking_network: DeepRankingModel,
    tables: Mapping[str, Neighbours],
    validation: HeldOut,
    *,
    candidate_count: int,
) -> dict[str, float]:
    """Choose the weight of each table: a share of the likeliest weights, the one with the best NDCG@10 on validation.

    A weight is 0 unless what the table gains is larger than its standard error.
    """
    found = [
        _Block(block, candidates_BK, logits_BK, _strengths(ranking_network, tables, block, candidates_BK))
        for block, candidates_BK, logits_BK in ranked_blocks(
            candidate_network, ranking_network, validation, candidate_count
        )
    ]

    def gains_of_users(weights: Mapping[str, float]) -> NDArray[np.float64]:
        ranks = [
            ranks_among(
                one.candidates,
                sum((weight * one.strengths[name] for name, weight in weights.items()), one.logits),
                one.held_out,
            )
            for one in found
        ]
        return means_of_users(gains(np.concatenate(ranks)), validation.users)

    def best_share(names: Sequence[str]) -> tuple[dict[str, float], NDArray[np.float64]]:
        likeliest = _likeliest(found, names)
        tried = [{name: share * weight for name, weight in likeliest.items()} for share in SHARES]
        return max(((weights, gains_of_users(weights)) for weights in tried), key=lambda pair: float(pair[1].mean()))

    chosen, chosen_U = best_share(list(tables))
    # Each table that is left costs time in serving.
    for name in tables:
        if name in chosen:
            others, others_U = best_share([other for other in chosen if other != name])
            if not larger_than_noise(chosen_U - others_U):
                chosen, chosen_U = others, others_U
    if not larger_than_noise(chosen_U - gains_of_users({})):
        chosen = {}
    return {name: chosen.get(name, 0.0) for name in tables}


class _Block(NamedTuple):
    """Some validation watches, and of their candidates: the rows, the logits and what each table says, [B, K] each."""

    held_out: HeldOut
    candidates: Tensor
    logits: Tensor
    strengths: Mapping[str, Tensor]


def _likeliest(found: Sequence[_Block], names: Sequence[str]) -> dict[str, float]:
    """Return the weights above zero with which a softmax over the candidates expects the targets most.

    This is a conditional logit: concave, and less moved by chance than a figure of the first ten. The logits of the
    network have a factor of their own, by which the weights are divided: they may be too sure.
    """
    if not names:
        return {}
    hits, features = [], []
    for one in found:
        hit_BK = one.candidates == torch.from_numpy(one.held_out.targets).to(one.candidates).unsqueeze(1)
        logits_BK = one.logits.masked_fill(seen_among(one.candidates, one.held_out.histories), NEVER)
        columns = [logits_BK, *(one.strengths[name] for name in names)]
        of_block = hit_BK.any(dim=1)
        hits.append(hit_BK[of_block].int().argmax(dim=1))
        features.append(torch.stack(columns, dim=2)[of_block])
    # Copies, since tensors of the inference mode cannot be learned from.
    with torch.inference_mode(mode=False):
        targets_N, features_NKC = torch.cat(hits).clone(), torch.cat(features).clone()
        factors_C = torch.zeros(1 + len(names), device=features_NKC.device)
        factors_C[0] = 1
        factors_C.requires_grad_()
        optimizer = torch.optim.LBFGS([factors_C], max_iter=50, line_search_fn="strong_wolfe")

        def step() -> Tensor:
            optimizer.zero_grad()
            loss = F.cross_entropy(features_NKC @ factors_C, targets_N)
            loss.backward()  # type: ignore[no-untyped-call]
            return loss

        with torch.enable_grad():
            optimizer.step(step)  # type: ignore[no-untyped-call]
        own, *others = factors_C.detach().tolist()
    if own <= 0 or not all(map(math.isfinite, (own, *others))):
        return {}
    if min(others) <= 0:
        return _likeliest(found, [name for name, factor in zip(names, others, strict=True) if factor > 0])
    return {name: factor / own for name, factor in zip(names, others, strict=True)}


def _strengths(
    network: DeepRankingModel, tables: Mapping[str, Neighbours], block: HeldOut, candidates_BK: Tensor
) -> dict[str, Tensor]:
    requests = network.pack(block.histories), rectangle(candidates_BK)
    return {name: table.strengths(*requests).view_as(candidates_BK) for name, table in tables.items()}


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
