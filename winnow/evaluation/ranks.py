"""Ranks of held-out watches among all items that their user has not seen, by each stage of a release.

Shape legend: B held-out watches, I items, K candidates, N candidates of all held-out watches.
"""

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from winnow.evaluation.rank_figures import NOT_FOUND, Ranks
from winnow.history import NO_ROWS, RaggedRows, Rows
from winnow.logs.split import HeldOut
from winnow.networks.candidate import DeepCandidateGenerationModel
from winnow.networks.packed import PackedTensor
from winnow.networks.ranking import DeepRankingModel
from winnow.networks.recalibration import CorrectionFactors


def popularity_ranks(watch_counts: NDArray[np.int64], held_out: HeldOut) -> Ranks:
    """Rank each target by `watch_counts`, int64 [I]."""
    scores_I = torch.from_numpy(watch_counts).float()
    blocks = held_out.blocks()
    return np.concatenate([_full_ranks(scores_I.expand(len(block), -1).clone(), block) for block in blocks])


@torch.inference_mode()
def candidate_ranks(network: DeepCandidateGenerationModel, held_out: HeldOut) -> Ranks:
    """Rank each target by the candidate network."""
    return np.concatenate([_full_ranks(_scores(network, block.histories), block) for block in held_out.blocks()])


@torch.inference_mode()
def chain_ranks(
    candidate_network: DeepCandidateGenerationModel,
    ranking_network: DeepRankingModel,
    held_out: HeldOut,
    *,
    candidate_count: int,
) -> Ranks:
    """Rank each target by the ranking network among the candidates; NOT_FOUND where it is not one of them."""
    ranks = []
    for block, candidates_BK, logits_BK in ranked_blocks(candidate_network, ranking_network, held_out, candidate_count):
        ranks.append(ranks_among(candidates_BK, logits_BK, block))
    return np.concatenate(ranks)


@torch.inference_mode()
def corrected_ranks(
    candidate_network: DeepCandidateGenerationModel,
    ranking_network: DeepRankingModel,
    held_out: HeldOut,
    *,
    candidate_count: int,
    factors: Sequence[CorrectionFactors],
) -> list[Ranks]:
    """Rank as `chain_ranks` would if the correction of the candidate score were scaled by each of `factors`.

    The ranking network has to add the score of this candidate network: see Matching. With factors of 0, the ranks are
    those of the candidate order.
    """
    ranks: list[list[Ranks]] = [[] for _ in factors]
    for block, candidates_BK, logits_BK in ranked_blocks(candidate_network, ranking_network, held_out, candidate_count):
        requests = ranking_network.pack(block.histories), rectangle(candidates_BK)
        of_candidates = candidate_network.pack(block.histories), requests[1]
        matching_BK = candidate_network.candidate_scores(*of_candidates).view_as(logits_BK)
        followed_BK = torch.zeros_like(logits_BK)
        if ranking_network.matching is not None and ranking_network.matching.successions is not None:
            plain_N = candidate_network.candidate_logits(*of_candidates)
            followed_BK = ranking_network.matching.successions(*requests, plain_N).view_as(logits_BK)
        tower_BK = logits_BK - followed_BK - matching_BK
        for factor, of_factor in zip(factors, ranks, strict=True):
            scores_BK = matching_BK + factor.tower * tower_BK + factor.successions * followed_BK
            of_factor.append(ranks_among(candidates_BK, scores_BK, block))
    return [np.concatenate(of_factor) for of_factor in ranks]


@torch.inference_mode()
def chain_logits(
    candidate_network: DeepCandidateGenerationModel,
    ranking_network: DeepRankingModel,
    held_out: HeldOut,
    *,
    candidate_count: int,
) -> tuple[Tensor, Tensor]:
    """Return the logits of all unseen candidates of all held-out watches, float [N], and which are the target, bool."""
    logits, hits = [], []
    for block, candidates_BK, logits_BK in ranked_blocks(candidate_network, ranking_network, held_out, candidate_count):
        hit_BK = candidates_BK == torch.from_numpy(block.targets).to(candidates_BK).unsqueeze(1)
        unseen_BK = ~seen_among(candidates_BK, block.histories)
        logits.append(logits_BK[unseen_BK])
        hits.append(hit_BK[unseen_BK])
    return torch.cat(logits), torch.cat(hits)


def ranked_blocks(
    candidate_network: DeepCandidateGenerationModel,
    ranking_network: DeepRankingModel,
    held_out: HeldOut,
    candidate_count: int,
) -> Iterator[tuple[HeldOut, Tensor, Tensor]]:
    """Yield the candidates of each block, best first, int64 [B, K], and the ranking network's logits, float [B, K]."""
    item_halves_ID = ranking_network.item_halves()
    for block in held_out.blocks():
        candidates_BK = top_candidates(candidate_network, block.histories, candidate_count=candidate_count)
        histories = ranking_network.pack(block.histories)
        logits_N = ranking_network.logits(histories, rectangle(candidates_BK), item_halves_ID)
        yield block, candidates_BK, logits_N.view_as(candidates_BK)


def ranks_among(candidates_BK: Tensor, scores_BK: Tensor, block: HeldOut) -> Ranks:
    """Rank the targets of a block among its candidates. Equal scores keep the order of the candidates.

    Candidates that their user has seen come last, whatever their scores, and a target among them is NOT_FOUND.
    """
    seen_BK = seen_among(candidates_BK, block.histories)
    scores_BK = scores_BK.masked_fill(seen_BK, -torch.inf)
    targets_B1 = torch.from_numpy(block.targets).to(candidates_BK).unsqueeze(1)
    hit_BK = (candidates_BK == targets_B1) & ~seen_BK
    target_scores_B1 = scores_BK.masked_fill(~hit_BK, -torch.inf).amax(dim=1, keepdim=True)
    places_K = torch.arange(candidates_BK.shape[1], device=candidates_BK.device)
    target_places_B1 = hit_BK.int().argmax(dim=1, keepdim=True)
    before_BK = (scores_BK > target_scores_B1) | ((scores_BK == target_scores_B1) & (places_K < target_places_B1))
    return before_BK.sum(dim=1).masked_fill(~hit_BK.any(dim=1), NOT_FOUND).cpu().numpy()


def seen_among(candidates_BK: Tensor, histories: RaggedRows) -> Tensor:
    """Return which candidates their user has seen, bool [B, K]: few unseen items were left. Serving leaves them out."""
    # Seen ones end a list: where none is last, there is none.
    users = np.repeat(np.arange(len(histories)), histories.lengths)
    last_B = candidates_BK[:, -1].cpu().numpy()
    seen_BK = torch.zeros_like(candidates_BK, dtype=torch.bool)
    for user in np.unique(users[histories.rows == last_B[users]]).tolist():
        seen = torch.from_numpy(histories[user].astype(np.int64)).to(candidates_BK.device)
        seen_BK[user] = torch.isin(candidates_BK[user], seen)
    return seen_BK


def places_of_targets(rows_BK: NDArray[np.int64], targets_B: NDArray[np.integer], histories: RaggedRows) -> Ranks:
    """Return where the target of each history is in its list; NOT_FOUND, too, where the user has seen it before.

    Seen items may end a list, but nobody is shown them.
    """
    hit_BK = rows_BK == targets_B[:, None]
    users_N = np.repeat(np.arange(len(histories)), histories.lengths)
    seen_before = np.bincount(users_N[histories.rows == targets_B[users_N]], minlength=len(histories)) > 0
    return np.where(hit_BK.any(axis=1) & ~seen_before, hit_BK.argmax(axis=1), NOT_FOUND)


@torch.inference_mode()
def top_candidates(
    network: DeepCandidateGenerationModel, histories: RaggedRows, *, candidate_count: int, retired: Rows = NO_ROWS
) -> Tensor:
    """Return the rows of the largest scores among unseen items, best first, int64 [B, K].

    Where fewer than K unseen items are left, the list ends with seen ones; `retired` rows are in no list.
    """
    scores_BI = _hide_seen(_scores(network, histories), histories)
    if not len(retired):
        return scores_BI.topk(min(candidate_count, scores_BI.shape[1]), dim=1).indices
    offered_I = torch.ones(scores_BI.shape[1], dtype=torch.bool, device=scores_BI.device)
    offered_I[torch.from_numpy(retired).to(scores_BI.device, torch.int64)] = False
    offered = offered_I.nonzero().squeeze(1)
    return offered[scores_BI[:, offered].topk(min(candidate_count, len(offered)), dim=1).indices]


def stage_ranks(
    held_out: HeldOut,
    watch_counts: NDArray[np.int64],
    candidate_network: DeepCandidateGenerationModel,
    ranking_network: DeepRankingModel | None = None,
    *,
    candidate_count: int = 0,
) -> dict[str, Ranks]:
    """Return the ranks by popularity, by the candidate stage and, with a ranking network, by the whole chain.

    `watch_counts`, int64 [I], must not count held-out watches.
    """
    ranks = {
        "popularity": popularity_ranks(watch_counts, held_out),
        "candidate": candidate_ranks(candidate_network, held_out),
    }
    if ranking_network is not None:
        ranks["chain"] = chain_ranks(candidate_network, ranking_network, held_out, candidate_count=candidate_count)
    return ranks


def _scores(network: DeepCandidateGenerationModel, histories: RaggedRows) -> Tensor:
    return network.scores(network.pack(histories))


def _hide_seen(scores_BI: Tensor, seen: RaggedRows) -> Tensor:
    users = torch.from_numpy(np.repeat(np.arange(len(seen)), seen.lengths)).to(scores_BI.device)
    rows = torch.from_numpy(seen.rows.astype(np.int64)).to(scores_BI.device)
    return scores_BI.index_put_((users, rows), scores_BI.new_tensor(-torch.inf))


def _full_ranks(scores_BI: Tensor, block: HeldOut) -> Ranks:
    """Rank the targets of a block among all items. Ties count against the target: equal scores must not look good.

    A target that its user has seen before is hidden like every seen item, and is NOT_FOUND.
    """
    scores_BI = _hide_seen(scores_BI, block.histories)
    targets = torch.from_numpy(block.targets).to(scores_BI.device, torch.int64).unsqueeze(1)
    target_scores = scores_BI.gather(1, targets)
    ranks_B = (scores_BI >= target_scores).sum(dim=1) - 1
    return ranks_B.masked_fill(torch.isneginf(target_scores.squeeze(1)), NOT_FOUND).cpu().numpy()


def rectangle(candidates_BK: Tensor) -> PackedTensor:
    """Pack lists of equal length."""
    batch_size, count = candidates_BK.shape
    offsets = torch.arange(0, batch_size * count + 1, count, device=candidates_BK.device)
    return PackedTensor(candidates_BK.flatten(), offsets)
