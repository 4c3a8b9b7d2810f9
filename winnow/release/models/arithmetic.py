"""Whether the ranking network of a release may be computed in bfloat16: measured when the release is written.

Shape legend: B requests, N candidates of all requests together.
"""

import numpy as np
from numpy.typing import NDArray

from winnow.history import RaggedRows, WatchHistories
from winnow.index.protocol import CandidateIndex
from winnow.networks.candidate import DeepCandidateGenerationModel
from winnow.networks.folded_ranking import FoldedRanking
from winnow.networks.options import Arithmetic
from winnow.networks.packed import pack
from winnow.networks.ranking import DeepRankingModel
from winnow.queries import RetrievalQuery
from winnow.release.manifest import ArithmeticEntry

# Candidates of a request, and how many of them are shown.
CANDIDATE_COUNT, ANSWER_LENGTH = 200, 20
NDCG_DEPTH = 10
# bfloat16 changes one item in five answers of 20 at most, and nothing that a figure of quality would show.
LEAST_OVERLAP = 0.99
LARGEST_NDCG_DIFFERENCE = 5e-4


def compare_arithmetic(
    candidate: DeepCandidateGenerationModel, ranking: DeepRankingModel, index: CandidateIndex, histories: RaggedRows
) -> ArithmeticEntry:
    """Hold out the last watch of each history and rank the candidates for the others in float32 and in bfloat16.

    `index` is that of the candidate network. Histories of a single watch are left out.
    """
    watched = WatchHistories.of(histories)
    known = np.flatnonzero(watched.lengths > 1)
    if not len(known):
        return ArithmeticEntry()
    held_out_B = watched.rows[watched.offsets[known + 1] - 1]
    watched = watched.take(watched.offsets[known], watched.lengths[known] - 1)
    counts = np.full(len(known), CANDIDATE_COUNT, dtype=np.int32)
    query = RetrievalQuery(histories=watched, counts=counts, exclusions=watched)
    candidates = index.search(candidate.user_vectors(candidate.pack(watched)), query).rows

    def best(arithmetic: Arithmetic) -> list[NDArray[np.int32]]:
        listed = pack(candidates, ranking.embedding.weight.device)
        logits_N = FoldedRanking(ranking, None, arithmetic).logits(ranking.pack(watched), listed).cpu().numpy()
        scores = np.split(logits_N, candidates.offsets[1:-1])
        order = [np.argsort(-scores_of_one, kind="stable")[:ANSWER_LENGTH] for scores_of_one in scores]
        return [candidates[request][rows] for request, rows in enumerate(order)]

    exact, cheap = best("float32"), best("bfloat16")
    overlap = float(np.mean([np.isin(ours, theirs).mean() for ours, theirs in zip(exact, cheap, strict=True)]))
    difference = abs(_ndcg(exact, held_out_B) - _ndcg(cheap, held_out_B))
    good = overlap >= LEAST_OVERLAP and difference <= LARGEST_NDCG_DIFFERENCE
    return ArithmeticEntry(
        kind="bfloat16" if good else "float32",
        top_20_overlap=overlap,
        ndcg_at_10_difference=difference,
        compared_on_query_count=len(known),
    )


def _ndcg(best: list[NDArray[np.int32]], held_out_B: NDArray[np.int32]) -> float:
    """NDCG@10 where one item is relevant: 1 / log2 of its position, counted from 2."""
    gains = 1 / np.log2(np.arange(NDCG_DEPTH) + 2)
    hits = [rows[:NDCG_DEPTH] == row for rows, row in zip(best, held_out_B, strict=True)]
    return float(np.mean([gains[: len(hit)][hit].sum() for hit in hits]))
