"""Ranking of one release: histories and candidates -> scores."""

from collections.abc import Sequence
from itertools import accumulate, pairwise
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray

from winnow.networks.folded_history import folded_bytes
from winnow.networks.folded_ranking import FoldedRanking, gains_from_bfloat16, item_half_dtype, item_half_table
from winnow.networks.hardware import has_bfloat16
from winnow.networks.options import Arithmetic
from winnow.networks.packed import pack
from winnow.networks.ranking import DeepRankingModel
from winnow.networks.tower import tower_widths
from winnow.queries import RankingQuery
from winnow.release.golden import TOLERANCE, GoldenRequests, check_scores
from winnow.release.manifest import RANKING_ADDED_FILE, RANKING_NETWORK_FILE, Manifest
from winnow.release.models.loader import load_ranking_network
from winnow.release.reader import Release
from winnow.serving.device import ComputedModel

RELEASE_FILES = frozenset({RANKING_NETWORK_FILE, RANKING_ADDED_FILE})
"""What is read of a release, besides the golden requests."""

# Eight bits a number, through three layers: probabilities move by a hundredth where scores are large.
BFLOAT16_TOLERANCE = 3e-2


class Ranker(ComputedModel[RankingQuery, NDArray[np.float32]]):
    """Scores batches of queries on one device."""

    def __init__(
        self,
        network: DeepRankingModel,
        device: torch.device,
        *,
        table_budget_bytes: int = 0,
        arithmetic: Arithmetic = "float32",
    ) -> None:
        """Make the table of item halves where it fits into the budget; see FoldedRanking."""
        self._network = network
        self._folded = FoldedRanking(network, item_half_table(network, table_budget_bytes, arithmetic), arithmetic)
        self.golden_tolerance = BFLOAT16_TOLERANCE if arithmetic == "bfloat16" else TOLERANCE
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
        candidates = pack(query.candidates, self._device)
        return self._network.scores(self._folded.logits(histories, candidates)).cpu().numpy()

    def compute(self, batch: Sequence[RankingQuery]) -> list[NDArray[np.float32]]:
        """Answer the queries of several calls as one."""
        scores = self.rank(RankingQuery.concatenate(batch))
        ends = accumulate((len(query.candidates.rows) for query in batch), initial=0)
        return [scores[start:end] for start, end in pairwise(ends)]

    def check_golden(self, golden: GoldenRequests) -> None:
        """Raise GoldenMismatchError unless the golden requests are answered as when the release was made."""
        query = RankingQuery(histories=golden.histories, candidates=golden.candidates, contexts=golden.contexts)
        check_scores("ranking network", golden.ranking_scores, self.rank(query), self.golden_tolerance)


def choose_arithmetic(
    setting: Literal["auto", "float32", "bfloat16"], manifest: Manifest, device: torch.device
) -> Arithmetic:
    """Resolve "auto": bfloat16 where the manifest allows it, the layers are wide, and the device has it in hardware."""
    if setting != "auto":
        return setting
    allowed = manifest.ranking_arithmetic.kind == "bfloat16"
    return "bfloat16" if allowed and gains_from_bfloat16(_widths(manifest)) and has_bfloat16(device) else "float32"


def table_bytes(manifest: Manifest, budget_bytes: int, arithmetic: Arithmetic) -> int:
    """Return the size of the tables that a release's network is folded into."""
    width = _widths(manifest)[1]
    dtype = item_half_dtype(manifest.item_count, width, budget_bytes, arithmetic)
    table = 0 if dtype is None else manifest.item_count * width * dtype.itemsize
    matching = manifest.ranking_network.options.matching
    return table + (folded_bytes(matching.network) if matching is not None and matching.adds_logit else 0)


def _widths(manifest: Manifest) -> list[int]:
    """Of the item's embedding and of the layers; without hidden layers, the output is the first one."""
    config = manifest.ranking_network
    return [*tower_widths(config.embedding_dim, config.hidden_dim, config.n_hidden_layers), 1]
