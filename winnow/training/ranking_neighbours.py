"""Adds the sums of nearest-neighbour recommenders to a trained ranking network, each as much as validation says.

Shape legend: B held-out watches, K candidates, U users.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from winnow.evaluation.rank_figures import gains, means_of_users
from winnow.evaluation.ranks import ranked_blocks, ranks_among, rectangle, seen_among
from winnow.logs.split import HeldOut
from winnow.networks.candidate import DeepCandidateGenerationModel
from winnow.networks.neighbours import Neighbours
from winnow.networks.ranking import DeepRankingModel
from winnow.training.conditional_logit import NEVER, likeliest_weights
from winnow.training.correction import larger_than_noise
from winnow.training.ranking_network import with_neighbours

# Of the likeliest weights, those that are tried.
SHARES = (0.25, 0.5, 0.75, 1.0)


def add_neighbours(
    candidate_network: DeepCandidateGenerationModel,
    ranking_network: DeepRankingModel,
    tables: Mapping[str, Neighbours],
    validation: HeldOut,
    *,
    candidate_count: int,
) -> tuple[DeepRankingModel, dict[str, float]]:
    """Return the network with the tables that order the candidates best on validation, and the weight of each table.

    The tables may be others than those of the candidate network, whose weights are those that are tried first; one of
    weight 0 is left out. It shares its weights with `ranking_network`, which has to add the logit of the candidate
    network: see Matching.
    """
    device = ranking_network.embedding.weight.device
    tables = {name: table.to(device) for name, table in tables.items()}
    plain = with_neighbours(ranking_network, [])
    weights = fit_weights(candidate_network, plain, tables, validation, candidate_count=candidate_count)
    # The tables may be those of the candidate network, which keep their weights.
    used = [tables[name].changed(weight=weight) for name, weight in weights.items() if weight]
    return with_neighbours(plain, used), weights


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

    A weight is 0 unless what the table gains is larger than its standard error. All are those that the tables have
    already, with which they are in the candidate network, unless what others gain is larger than its standard error.
    """
    first = {name: float(table.weight) for name, table in tables.items()}
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
    if not larger_than_noise(chosen_U - gains_of_users(first)):
        chosen = first
    return {name: chosen.get(name, 0.0) for name in tables}


class _Block(NamedTuple):
    """Some validation watches, and of their candidates: the rows, the logits and what each table says, [B, K] each."""

    held_out: HeldOut
    candidates: Tensor
    logits: Tensor
    strengths: Mapping[str, Tensor]


def _likeliest(found: Sequence[_Block], names: Sequence[str]) -> dict[str, float]:
    """Return the likeliest weights of some tables, where the target is among the candidates."""
    hits, features = [], []
    for one in found:
        hit_BK = one.candidates == torch.from_numpy(one.held_out.targets).to(one.candidates).unsqueeze(1)
        logits_BK = one.logits.masked_fill(seen_among(one.candidates, one.held_out.histories), NEVER)
        columns = [logits_BK, *(one.strengths[name] for name in names)]
        of_block = hit_BK.any(dim=1)
        hits.append(hit_BK[of_block].int().argmax(dim=1))
        features.append(torch.stack(columns, dim=2)[of_block])
    return dict(likeliest_weights(torch.cat(hits), torch.cat(features), names).weights)


def _strengths(
    network: DeepRankingModel, tables: Mapping[str, Neighbours], block: HeldOut, candidates_BK: Tensor
) -> dict[str, Tensor]:
    requests = network.pack(block.histories), rectangle(candidates_BK)
    return {name: table.strengths(*requests).view_as(candidates_BK) for name, table in tables.items()}
