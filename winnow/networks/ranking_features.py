"""Continuous features of a candidate for a request (paper, sections 4.1.1 and 4.1.3): the same code trains and serves.

Shape legend: B requests, N candidates of all requests together, W watches of all histories together, I items, R
features, Q points of a quantile table, E embedding_dim.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from winnow.history import UNKNOWN_TIME
from winnow.networks.packed import PackedTensor

CANDIDATE_SCORE, SIMILARITY = "candidate_score", "similarity"
# Of watches of the author and of the category: how long ago the latest was, and how many there are in the history.
# Of the user's earlier impressions without a click: how many of the item, its author, its category. Of the item: its
# age, its popularity, its length. And the candidate network's opinion: its logit of the candidate, and the cosine of
# the candidate's embedding and the average of those of the latest watches.
FEATURES = (
    "seconds_since_author_watch",
    "author_watches",
    "seconds_since_category_watch",
    "category_watches",
    "item_unclicked",
    "author_unclicked",
    "category_unclicked",
    "item_age_seconds",
    "popularity",
    "duration_seconds",
    SIMILARITY,
    CANDIDATE_SCORE,
)
# For each feature: whether it is known, its quantile, and the square and the root of that.
COLUMNS_A_FEATURE = 4
QUANTILE_POINTS = 256
# How many of the latest watches `similarity` looks at.
SIMILAR_WATCHES = 10

NO_GROUP = -1
UNKNOWN_DURATION = np.float32(-1)


@dataclass(frozen=True, kw_only=True, eq=False)
class ItemFacts:
    """What is known of each of I items, by row.

    `authors` and `categories` are numbers from 0, NO_GROUP where there is none, int32; `uploaded` is int64, seconds
    since 1970, UNKNOWN_TIME where unknown; `durations` float32, seconds, UNKNOWN_DURATION where unknown; `popularity`
    float32, the share of the watches that were known when the network was trained.
    """

    authors: NDArray[np.int32]
    categories: NDArray[np.int32]
    uploaded: NDArray[np.int64]
    durations: NDArray[np.float32]
    popularity: NDArray[np.float32]

    @classmethod
    def unknown(cls, popularity: NDArray[np.float32]) -> Self:
        """Items of which nothing else is known."""
        count = len(popularity)
        return cls(
            authors=np.full(count, NO_GROUP, dtype=np.int32),
            categories=np.full(count, NO_GROUP, dtype=np.int32),
            uploaded=np.full(count, UNKNOWN_TIME),
            durations=np.full(count, UNKNOWN_DURATION),
            popularity=popularity,
        )


class RankingFeatures(nn.Module):
    """Features of each candidate as columns for a linear layer.

    A feature x becomes its quantile among the training examples, in [0, 1), with square and root: the layer can then be
    super- and sub-linear in it. Where x is known, its first column is 1; where it is
    not, all of them are 0.
    """

    def __init__(self, n_items: int, names: Sequence[str]) -> None:
        """Make room for the tables; `set_facts` and `fit`, or a release, fill them. Raises ValueError for a name."""
        super().__init__()
        unknown = [name for name in names if name not in FEATURES]
        if unknown or not names:
            raise ValueError(f"features: {', '.join(unknown) or 'none'}: they are some of {', '.join(FEATURES)}")
        self.names = tuple(names)
        self.authors: Tensor
        self.categories: Tensor
        self.uploaded: Tensor
        self.durations: Tensor
        self.popularity: Tensor
        self.quantile_values: Tensor
        self.quantile_levels: Tensor
        self.register_buffer("authors", torch.full((n_items,), NO_GROUP, dtype=torch.int32))
        self.register_buffer("categories", torch.full((n_items,), NO_GROUP, dtype=torch.int32))
        self.register_buffer("uploaded", torch.full((n_items,), int(UNKNOWN_TIME), dtype=torch.int64))
        self.register_buffer("durations", torch.full((n_items,), float(UNKNOWN_DURATION)))
        self.register_buffer("popularity", torch.zeros(n_items))
        self.register_buffer("quantile_values", torch.zeros(len(names), QUANTILE_POINTS))
        self.register_buffer("quantile_levels", torch.zeros(len(names), QUANTILE_POINTS))

    @property
    def column_count(self) -> int:
        """How many columns there are a candidate."""
        return COLUMNS_A_FEATURE * len(self.names)

    def set_facts(self, facts: ItemFacts) -> None:
        """Keep what is known of the items."""
        for name in ("authors", "categories", "uploaded", "durations", "popularity"):
            getattr(self, name).copy_(torch.from_numpy(getattr(facts, name)))

    def fit(self, raw_NR: Tensor) -> None:
        """Learn the quantiles of the features from those of many candidates, NaN where unknown."""
        levels_Q = (torch.arange(QUANTILE_POINTS, device=raw_NR.device) + 0.5) / QUANTILE_POINTS
        for feature, raw_N in enumerate(raw_NR.T):
            known = raw_N[~raw_N.isnan()].sort().values
            if not len(known):
                continue
            values_Q = known[(levels_Q * len(known)).long()]
            values, counts = values_Q.unique_consecutive(return_counts=True)
            # A value that many examples share stands in the middle of them.
            stops = counts.cumsum(0)
            levels = (stops - 0.5 * counts) / QUANTILE_POINTS
            for table, points in ((self.quantile_values, values), (self.quantile_levels, levels)):
                table[feature] = points[-1]
                table[feature, : len(points)] = points

    def forward(self, raw_NR: Tensor) -> Tensor:
        """Return the columns of raw features, NaN where unknown, [N, R] -> [N, 4 R]."""
        known_RN = ~raw_NR.T.isnan()
        raw_RN = raw_NR.T.nan_to_num().contiguous()
        after_RN = torch.searchsorted(self.quantile_values, raw_RN, right=True).clamp_(1, QUANTILE_POINTS - 1)
        low_RN, high_RN = (self.quantile_values.gather(1, at_RN) for at_RN in (after_RN - 1, after_RN))
        share_RN = (raw_RN - low_RN) / (high_RN - low_RN).clamp_min(torch.finfo(torch.float32).tiny)
        from_RN, to_RN = (self.quantile_levels.gather(1, at_RN) for at_RN in (after_RN - 1, after_RN))
        level_RN = torch.lerp(from_RN, to_RN, share_RN.clamp_(0, 1)) * known_RN
        columns = torch.stack([known_RN.to(level_RN.dtype), level_RN, level_RN.square(), level_RN.sqrt()])
        return columns.flatten(0, 1).T

    def raw(
        self, histories: PackedTensor, candidates: PackedTensor, embedding_IE: Tensor | None, scores_N: Tensor | None
    ) -> Tensor:
        """Return the features of every candidate as they are, float [N, R], NaN where unknown.

        `embedding_IE` and `scores_N` are the candidate network's embeddings and logits; some features need them.
        """
        of_request = candidates.list_of_each_row()
        of_watch = histories.list_of_each_row()
        rows = candidates.rows.long()
        found: dict[str, Tensor] = {}
        now_N = _times(histories.request_times, len(histories.offsets) - 1, rows.device)[of_request]
        watched_at_W = _times(histories.timestamps, len(histories.rows), rows.device)
        unclicked = histories.unclicked
        for group, groups_I in (("item", None), ("author", self.authors), ("category", self.categories)):
            of_watches = (f"{group}_watches", f"seconds_since_{group}_watch")
            of_shown = f"{group}_unclicked"
            if not {*of_watches, of_shown} & set(self.names):
                continue
            candidates_N = _keys(of_request, rows, groups_I, NO_GROUP)
            if set(of_watches) & set(self.names):
                watches_W = _keys(of_watch, histories.rows.long(), groups_I, NO_GROUP - 1)
                counts_N, latest_N = _matches(watches_W, candidates_N)
                found[of_watches[0]] = counts_N
                latest_at_N = watched_at_W[latest_N] if len(watched_at_W) else torch.full_like(now_N, int(UNKNOWN_TIME))
                found[of_watches[1]] = _seconds(latest_at_N, now_N).masked_fill(counts_N == 0, torch.nan)
            if unclicked is None:
                found[of_shown] = torch.zeros_like(rows)
            elif of_shown in self.names:
                shown = _keys(unclicked.list_of_each_row(), unclicked.rows.long(), groups_I, NO_GROUP - 1)
                found[of_shown], _ = _matches(shown, candidates_N)
        found["item_age_seconds"] = _seconds(self.uploaded[rows], now_N)
        found["popularity"] = self.popularity[rows]
        durations_N = self.durations[rows]
        found["duration_seconds"] = durations_N.masked_fill(durations_N < 0, torch.nan)
        if SIMILARITY in self.names:
            assert embedding_IE is not None  # noqa: S101 - the network that asks has made sure
            found[SIMILARITY] = _similarity(histories, embedding_IE, of_request, rows)
        if CANDIDATE_SCORE in self.names:
            assert scores_N is not None  # noqa: S101 - the network that asks has made sure
            empty_B = histories.lengths == 0
            found[CANDIDATE_SCORE] = scores_N.masked_fill(empty_B[of_request], torch.nan)
        return torch.stack([found[name].to(torch.float32) for name in self.names], dim=1)


def _times(times: Tensor | None, count: int, device: torch.device) -> Tensor:
    return torch.full((count,), int(UNKNOWN_TIME), device=device) if times is None else times


def _seconds(earlier: Tensor, later: Tensor) -> Tensor:
    """Return how long before it was, 0 where it was not; NaN where either is unknown."""
    known = (earlier != int(UNKNOWN_TIME)) & (later != int(UNKNOWN_TIME))
    # As floats, which do not overflow whatever a caller sends.
    return (later.double() - earlier.double()).clamp_min(0).masked_fill(~known, torch.nan)


def _keys(lists: Tensor, rows: Tensor, groups_I: Tensor | None, of_none: int) -> Tensor:
    """Return one number for a list and the group of a row in it; `of_none`, negative, where a row has no group."""
    groups = rows if groups_I is None else groups_I[rows].long()
    return (lists * 2**32 + groups).masked_fill(groups < 0, of_none)


def _matches(keys: Tensor, wanted_N: Tensor) -> tuple[Tensor, Tensor]:
    """Return how many of the keys equal each wanted one, and the position of the last of them, if there is one."""
    ordered, order = keys.sort(stable=True)
    stops_N = torch.searchsorted(ordered, wanted_N, right=True)
    counts_N = stops_N - torch.searchsorted(ordered, wanted_N)
    return counts_N, order[(stops_N - 1).clamp_min(0)] if len(order) else stops_N


def _similarity(histories: PackedTensor, embedding_IE: Tensor, of_request: Tensor, rows: Tensor) -> Tensor:
    """Return the cosine of each candidate and the average of its request's latest watches; NaN without any."""
    lengths_B = histories.lengths
    from_end_W = histories.offsets[1:].repeat_interleave(lengths_B, output_size=len(histories.rows))
    from_end_W = from_end_W - torch.arange(len(histories.rows), device=rows.device)
    weights_W = (from_end_W <= SIMILAR_WATCHES).to(embedding_IE.dtype)
    average_BE = F.embedding_bag(
        histories.rows,
        embedding_IE,
        histories.offsets,
        mode="sum",
        per_sample_weights=weights_W,
        include_last_offset=True,
    )
    cosines_N = F.cosine_similarity(average_BE[of_request], F.embedding(rows, embedding_IE), dim=1)
    return cosines_N.masked_fill((lengths_B == 0)[of_request], torch.nan)
