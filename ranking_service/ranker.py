"""Ranking of one release: histories and candidates -> scores."""

from collections.abc import Sequence
from itertools import accumulate, pairwise

import numpy as np
import torch
from numpy.typing import NDArray

from winnow.networks.folded_history import folded_bytes
from winnow.networks.folded_ranking import Arithmetic, FoldedRanking, item_half_dtype, item_half_table
from winnow.networks.packed import pack
from winnow.networks.ranking import DeepRankingModel
from winnow.networks.tower import tower_widths
from winnow.queries import RankingQuery
from winnow.release.golden import TOLERANCE, GoldenRequests, check_scores
from winnow.release.manifest import RANKING_NETWORK_FILE, Manifest
from winnow.release.models.loader import load_ranking_network
from winnow.release.reader import Release

RELEASE_FILES = frozenset({RANKING_NETWORK_FILE})
"""What is read of a release, besides the golden requests."""

# Eight bits a number, through three layers: probabilities move by a hundredth where scores are large.
BFLOAT16_TOLERANCE = 3e-2


class Ranker:
    """Scores batches of queries on one device."""

    def __init__(
        self,
        network: DeepRankingModel,
        device: torch.device,
        *,
        table_budget_bytes: int = 0,
        arithmetic: Arithmetic = "float32",
    ) -> None:
        """Fold the network where the table of its item halves fits into the budget; see FoldedRanking.

        Where it does not, the plain network computes, in float32 whatever `arithmetic` says.
        """
        table = item_half_table(network, table_budget_bytes)
        self._network = network
        self._logits = network.logits if table is None else FoldedRanking(network, table, arithmetic).logits
        self._golden_tolerance = BFLOAT16_TOLERANCE if table is not None and arithmetic == "bfloat16" else TOLERANCE
        self._device = device

    @classmethod
    def from_release(
        cls,
        release: Release,
        device: torch.device,
        *,
        table_budget_bytes: int = 0,
        arithmetic: Arithmetic = "float32",
    ) -> "Ranker":
        """Load the network. Raises ReleaseError where it does not fit the release."""
        network = load_ranking_network(release, device)
        return cls(network, device, table_budget_bytes=table_budget_bytes, arithmetic=arithmetic)

    @property
    def item_count(self) -> int:
        """Rows lie in [0, item_count)."""
        return self._network.n_items

    @torch.inference_mode()
    def rank(self, query: RankingQuery) -> NDArray[np.float32]:
        """Return the score of every candidate, float32 [N], in the order of the candidates."""
        histories = self._network.pack(query.histories, query.contexts)
        candidates = pack(query.candidates, self.item_count, "candidates", self._device)
        return self._network.scores(self._logits(histories, candidates)).cpu().numpy()

    def compute(self, batch: Sequence[RankingQuery]) -> list[NDArray[np.float32]]:
        """Answer the queries of several calls as one."""
        scores = self.rank(RankingQuery.concatenate(batch))
        ends = accumulate((len(query.candidates.rows) for query in batch), initial=0)
        return [scores[start:end] for start, end in pairwise(ends)]

    def check_golden(self, golden: GoldenRequests) -> None:
        """Raise GoldenMismatchError unless the golden requests are answered as when the release was made."""
        query = RankingQuery(histories=golden.histories, candidates=golden.candidates, contexts=golden.contexts)
        check_scores("ranking network", golden.ranking_scores, self.rank(query), self._golden_tolerance)


def table_bytes(manifest: Manifest, budget_bytes: int) -> int:
    """Return the size of the tables that a release's network is folded into; 0 where it is not folded."""
    config = manifest.ranking_network
    # Without hidden layers, the first layer is the output.
    _, width, *_ = [*tower_widths(0, config.hidden_dim, config.n_hidden_layers), 1]
    dtype = item_half_dtype(manifest.item_count, width, budget_bytes)
    if dtype is None:
        return 0
    matching = config.options.matching
    inner = folded_bytes(matching.network) if matching is not None and matching.adds_logit else 0
    return manifest.item_count * width * dtype.itemsize + inner
