"""Adds the sums of nearest-neighbour recommenders to a trained candidate network, each as much as validation says.

What counts of a list is whether it holds the watched item, and how high: its hit rate plus NDCG@10.

Shape legend: B held-out watches of a block, I items, K items of a list, C tables and the logits, U users.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import combinations
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from winnow.evaluation.rank_figures import NOT_FOUND, Ranks, rank_figures
from winnow.logs.split import HeldOut
from winnow.networks.candidate import DeepCandidateGenerationModel
from winnow.networks.neighbours import Neighbours
from winnow.networks.packed import PackedTensor
from winnow.release.models.loader import build_network
from winnow.training.conditional_logit import NEVER, likeliest_weights
from winnow.training.trained_networks import evenly_spread

# What tables have to gain, since they cost memory in both stages, and in retrieval about as much time as a scan of some
# ten thousand items.
LEAST_GAIN = 0.02
# What the sums of a table are tried with: see NeighbourOptions.scale.
SCALES = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3)
# Of the likeliest weights, those that are tried.
SHARES = (0.5, 1.0, 2.0)
# Validation watches that weights are fitted on, and that lists are compared on; fewer of large catalogues.
FITTED_COUNT, COMPARED_COUNT, LEAST_COUNT = 2000, 5000, 500
SCORES_COMPARED = 60_000_000
# The weights are fitted on the best items of the network, and of each table.
LIST_LENGTH = 200
# Scores of all items that are held at once: 4 MB for each table.
BLOCK_SCORES = 1024 * 1024


class CandidateNeighbours(NamedTuple):
    """A candidate network with the tables that help, and what was found on validation."""

    network: DeepCandidateGenerationModel
    weights: Mapping[str, float]
    """By table; 0 is left out."""
    tables: Mapping[str, Neighbours]
    """All tables, with the scales that fit."""
    figures: tuple[Mapping[str, float], Mapping[str, float]]
    """On the validation watches that were compared, without the tables and with them."""

    def in_words(self) -> str:
        """Return which tables are used, and what for."""
        used = ", ".join(
            f"{name} {weight:.3g} (scale {self.tables[name].options.scale:g})"
            for name, weight in self.weights.items()
            if weight
        )
        if not used:
            return "weights of neighbours: none"
        without, with_them = self.figures
        gained = ", ".join(
            f"{name} {without[name]:.4f} without and {with_them[name]:.4f} with them" for name in without
        )
        return f"weights of neighbours: {used}; on validation {gained}"

    def as_json(self) -> Mapping[str, Any]:
        """Return what the manifest of a release holds of it."""
        return {
            "weights": dict(self.weights),
            "scales": {name: table.options.scale for name, table in self.tables.items()},
            "validation": dict(zip(("without", "with"), map(dict, self.figures), strict=True)),
        }


@torch.no_grad()
def add_to_candidates(
    network: DeepCandidateGenerationModel,
    tables: Mapping[str, Neighbours],
    validation: HeldOut,
    *,
    candidate_count: int,
) -> CandidateNeighbours:
    """Choose on validation the tables with which the lists are best.

    Scales and weights are the likeliest ones, the latter times the best of SHARES. All sets of tables are tried. The
    best one is taken, unless it gains less than LEAST_GAIN.
    """
    device = network.embedding.weight.device
    tables = {name: table.to(device) for name, table in tables.items()}
    affordable = max(LEAST_COUNT, SCORES_COMPARED // network.n_items)
    fitted_on = _Choices.of(network, tables, _spread(validation, min(FITTED_COUNT, affordable)))
    tables = {name: table.changed(scale=fitted_on.likeliest_scale(name)) for name, table in tables.items()}
    tried: list[Mapping[str, float]] = [{}]
    for size in range(1, len(tables) + 1):
        for names in combinations(tables, size):
            weights = fitted_on.likeliest_weights({name: tables[name] for name in names})
            if len(weights) == size:
                tried += [{name: share * weight for name, weight in weights.items()} for share in SHARES]
    compared = _spread(validation, min(COMPARED_COUNT, affordable))
    ranks = _ranks(network, tables, compared, tried)
    figures = [_figures(one, compared, candidate_count) for one in ranks]
    chosen = _best([sum(of_lists.values()) for of_lists in figures])
    weights = {name: tried[chosen].get(name, 0.0) for name in tables}
    tables = {name: table.changed(weight=weights[name]) for name, table in tables.items()}
    return CandidateNeighbours(
        network=_with_tables(network, [table for name, table in tables.items() if name in tried[chosen]]),
        weights=weights,
        tables=tables,
        figures=(figures[0], figures[chosen]),
    )


def _best(worths: Sequence[float]) -> int:
    """The position of the best lists, if they gain enough over the first ones, which are without tables."""
    best = int(np.argmax(worths))
    return best if worths[best] - worths[0] >= LEAST_GAIN else 0


def _figures(ranks: Ranks, held_out: HeldOut, candidate_count: int) -> Mapping[str, float]:
    found = rank_figures(ranks, held_out.users, (candidate_count,))
    return {name: found[name] for name in (f"hr_at_{candidate_count}", "ndcg_at_10")}


class _Choices(NamedTuple):
    """Of some held-out watches: the best items by the logits or by a table, as far as the target is among them.

    `places`, [B], is where the target is, `logits` [B, K], `sums` [B, K] by table.
    """

    places: Tensor
    logits: Tensor
    sums: Mapping[str, Tensor]

    @classmethod
    def of(
        cls, network: DeepCandidateGenerationModel, tables: Mapping[str, Neighbours], held_out: HeldOut
    ) -> "_Choices":
        parts = [_choices(logits_BI, sums, block) for block, logits_BI, sums in _scored(network, tables, held_out)]
        return cls(
            torch.cat([part.places for part in parts]),
            torch.cat([part.logits for part in parts]),
            {name: torch.cat([part.sums[name] for part in parts]) for name in tables},
        )

    def likeliest_scale(self, name: str) -> float:
        """The scale with which the table alone explains the targets best."""

        def loss(scale: float) -> float:
            columns_BKC = torch.stack([self.logits, (self.sums[name] / scale).log1p()], dim=2)
            return likeliest_weights(self.places, columns_BKC, [name]).loss

        return min(SCALES, key=loss)

    def likeliest_weights(self, tables: Mapping[str, Neighbours]) -> Mapping[str, float]:
        """Only those above zero."""
        columns = [self.logits, *(table.strengths_of(self.sums[name]) for name, table in tables.items())]
        return likeliest_weights(self.places, torch.stack(columns, dim=2), list(tables)).weights


def _choices(logits_BI: Tensor, sums: Mapping[str, Tensor], block: HeldOut) -> _Choices:
    unseen_BI = logits_BI > NEVER
    count = min(LIST_LENGTH, logits_BI.shape[1])
    lists = [logits_BI.topk(count).indices, *((sums[name] * unseen_BI).topk(count).indices for name in sums)]
    rows_BK = torch.cat(lists, dim=1).sort(dim=1).values
    once_BK = torch.cat([torch.ones_like(rows_BK[:, :1], dtype=torch.bool), rows_BK.diff(dim=1) > 0], dim=1)
    logits_BK = logits_BI.gather(1, rows_BK).masked_fill(~once_BK, NEVER)
    hit_BK = (rows_BK == _targets(block, rows_BK)) & (logits_BK > NEVER)
    there_B = hit_BK.any(dim=1)
    return _Choices(
        hit_BK.int().argmax(dim=1)[there_B],
        logits_BK[there_B],
        {name: sums_BI.gather(1, rows_BK)[there_B] for name, sums_BI in sums.items()},
    )


def _ranks(
    network: DeepCandidateGenerationModel,
    tables: Mapping[str, Neighbours],
    held_out: HeldOut,
    tried: Sequence[Mapping[str, float]],
) -> list[Ranks]:
    """Rank the targets among all unseen items with each of the weights that are tried."""
    ranks: list[list[Ranks]] = [[] for _ in tried]
    for block, logits_BI, sums in _scored(network, tables, held_out):
        strengths = {name: tables[name].strengths_of(sums_BI) for name, sums_BI in sums.items()}
        targets_B1 = _targets(block, logits_BI)
        seen_B = logits_BI.gather(1, targets_B1).squeeze(1) <= NEVER
        for weights, of_weights in zip(tried, ranks, strict=True):
            scores_BI = sum((weight * strengths[name] for name, weight in weights.items()), logits_BI)
            ranks_B = (scores_BI >= scores_BI.gather(1, targets_B1)).sum(dim=1) - 1
            of_weights.append(ranks_B.masked_fill(seen_B, NOT_FOUND).cpu().numpy())
    return [np.concatenate(of_weights) for of_weights in ranks]


def _scored(
    network: DeepCandidateGenerationModel, tables: Mapping[str, Neighbours], held_out: HeldOut
) -> Iterator[tuple[HeldOut, Tensor, dict[str, Tensor]]]:
    """Yield some watches with the logits of all items, NEVER if seen, and what each table sums, 0 if seen: [B, I]."""
    at_once = max(1, BLOCK_SCORES // network.n_items)
    for start in range(0, len(held_out), at_once):
        block = held_out.slice(start, min(start + at_once, len(held_out)))
        histories = network.pack(block.histories)
        logits_BI = network.logits(network.user_vectors(histories))
        users = torch.from_numpy(np.repeat(np.arange(len(block)), block.histories.lengths)).to(logits_BI.device)
        seen = users, torch.from_numpy(block.histories.rows).to(logits_BI.device, torch.long)
        sums = {name: _sums(table, histories).index_put_(seen, users.new_zeros((), dtype=torch.float32))
                for name, table in tables.items()}  # fmt: skip
        yield block, logits_BI.index_put_(seen, logits_BI.new_tensor(NEVER)), sums


def _sums(table: Neighbours, histories: PackedTensor) -> Tensor:
    user_count = len(histories.offsets) - 1
    keys_T, sums_T = table.found(histories, 0, user_count)
    sums = sums_T.new_zeros(user_count * table.n_items).index_put_((keys_T,), sums_T)
    return sums.view(user_count, table.n_items)


def _targets(block: HeldOut, like: Tensor) -> Tensor:
    return torch.from_numpy(block.targets).to(like.device, torch.long).unsqueeze(1)


def _spread(held_out: HeldOut, count: int) -> HeldOut:
    """Some of the watches, spread evenly."""
    chosen = evenly_spread(len(held_out), count)
    histories = held_out.histories
    return HeldOut(
        histories=histories.take(histories.offsets[chosen], histories.lengths[chosen]),
        targets=held_out.targets[chosen],
        users=held_out.users[chosen],
    )


def _with_tables(network: DeepCandidateGenerationModel, tables: Sequence[Neighbours]) -> DeepCandidateGenerationModel:
    if not tables:
        return network
    options = replace(network.config.options, neighbours=tuple(table.options for table in tables))
    weights = network.state_dict() | nn.ModuleList(tables).state_dict(prefix="neighbours.")
    config = replace(network.config, options=options)
    return build_network(DeepCandidateGenerationModel.from_config, config, weights)
