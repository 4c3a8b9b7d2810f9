"""Trains the candidate network: the next watch as extreme multi-class classification (paper, section 3.1).

Shape legend: B chunks, C targets per chunk, S watches per chunk with its context, N examples, I items, E embedding_dim,
F features of a watch, A width of the attribute embeddings, H hidden_dim, M watches of all histories and their copies.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from winnow.evaluation.rank_figures import rank_figures
from winnow.evaluation.ranks import candidate_ranks
from winnow.history import RaggedRows
from winnow.logs.rollback import sample_examples
from winnow.logs.side_values import SideValues
from winnow.logs.split import LogSplit, held_back
from winnow.networks.candidate import DeepCandidateGenerationModel
from winnow.networks.item_parts import AttributePart
from winnow.networks.options import AttributeShape, CandidateConfig, CandidateOptions
from winnow.networks.tower import Dropout, dropout_of
from winnow.networks.watch_features import UNKNOWN_CODE, quantile_edges
from winnow.training.losses import LogitMemory, full_softmax_loss, sampled_softmax_loss
from winnow.training.negatives import MixedSampler, NegativeSampler
from winnow.training.presets import CandidateSettings
from winnow.training.rollback_chunks import ChunkBatch, RollbackChunks, example_ages, time_span
from winnow.training.run_context import RunContext
from winnow.training.shuffled_copies import at_positions, positions_of_copies

# Up to here the softmax over all items is both exact and fast enough.
FULL_SOFTMAX_ITEM_LIMIT = 100_000


class CandidateTrainee:
    """The candidate network in training; see Trainee."""

    name = "candidate"
    counts_untrained = False

    def __init__(
        self,
        split: LogSplit,
        watch_counts: NDArray[np.int64],
        settings: CandidateSettings,
        context: RunContext,
        *,
        sides: Sequence[SideValues] = (),
        parts: Sequence[SideValues] = (),
    ) -> None:
        """Draw the network. `watch_counts`, int64 [I], counts the training watches.

        `sides` are the values of `attribute_columns`, `parts` those of `new_items_by`.
        """
        item_count, seed, device = len(watch_counts), context.seed, context.device
        self.settings = settings
        self._context = context
        self._training = split.training
        self.network = self._build_network(
            CandidateConfig(
                item_count,
                settings.embedding_dim,
                settings.hidden_dim,
                settings.n_hidden_layers,
                seed,
                self._complete_options(sides, parts),
            )
        ).to(device)
        if self.network.attributes is not None:
            self.network.attributes.fill([torch.from_numpy(side.values) for side in sides])
        self._part_values = [torch.from_numpy(side.values).to(device) for side in parts]
        # Watches that this network does not learn to predict, bool [N]: the examples of ranking.
        self.held_back = self._hold_back()
        self._ages_N = example_ages(split.training, self._time_span()) if settings.options.example_age else None
        self._validation = split.validation
        self._positions_M, self._chunks = self._cut(0)
        self._watch_counts = watch_counts
        self._logits = LogitMemory()
        self._sampled = samples_softmax(settings, item_count)
        self.optimizers = self._build_optimizers()
        self.steps_per_epoch = -(-len(self._chunks) // settings.chunks_per_batch)

    def losses(self, epoch: int) -> Iterator[tuple[Tensor, int]]:
        """Yield one step per batch of chunks, in a new order every epoch."""
        if self.settings.shuffled_copies:
            self._positions_M, self._chunks = self._cut(epoch)
        sampler = (MixedSampler if self.settings.negatives == "mixed" else NegativeSampler)(
            torch.from_numpy(self._watch_counts),
            sample_count=self.settings.negative_count,
            generator=torch.Generator().manual_seed(self._context.seed + epoch),
        )
        sampled_N = self._sample(epoch)
        for batch in self._batches(epoch, len(self._chunks)):
            chunks = self._chunks.batch(batch)
            if sampled_N is not None:
                chunks = replace(chunks, labelled=chunks.labelled & sampled_N[self._positions_M[chunks.targets]])
            example_count = self._count_examples(chunks)
            if example_count:
                yield self._loss(chunks, sampler), example_count

    def validate(self) -> Mapping[str, float]:
        """Return the figures, HR@10 first: it still rises when HR@200 no longer does, and ranking needs the order."""
        with self._folded():
            found = rank_figures(candidate_ranks(self.network, self._validation), self._validation.users)
        return {name: found[name] for name in ("hr_at_10", "hr_at_200", "ndcg_at_10")}

    def fold(self) -> None:
        """Finish the tables of the network, once and after the training: see ItemParts."""
        if self.network.parts is not None:
            self.network.parts.fold(self.network.embedding.weight, self.network.item_vectors_IH, self._part_values)

    @contextmanager
    def _folded(self) -> Iterator[None]:
        """Let the network be for a while what it will be after the training."""
        if self.network.parts is None:
            yield
            return
        tables = [self.network.embedding.weight, self.network.item_vectors_IH]
        own_parts = [table.detach().clone() for table in tables]
        self.fold()
        try:
            yield
        finally:
            with torch.no_grad():
                for table, own_part in zip(tables, own_parts, strict=True):
                    table.copy_(own_part)

    def _build_network(self, config: CandidateConfig) -> DeepCandidateGenerationModel:
        return DeepCandidateGenerationModel.from_config(config)

    def _complete_options(self, sides: Sequence[SideValues], parts: Sequence[SideValues]) -> CandidateOptions:
        return complete_options(self.settings, partial(quantile_edges, self._training.weights), sides, parts)

    def _hold_back(self) -> NDArray[np.bool_]:
        return held_back(len(self._training.rows), self.settings.held_back_share, seed=self._context.seed)

    def _time_span(self) -> tuple[int, int]:
        return time_span(self._training)

    def _batches(self, epoch: int, chunk_count: int) -> Iterator[NDArray[np.int64]]:
        """Yield the chunks of each step of an epoch, int64 [B]."""
        order = np.random.default_rng([self._context.seed, epoch]).permutation(chunk_count)
        yield from np.array_split(order, self.steps_per_epoch)

    def _count_examples(self, chunks: ChunkBatch) -> int:
        return int(chunks.labelled.sum())

    def _cut(self, epoch: int) -> tuple[NDArray[np.int64], RollbackChunks]:
        """Return the chunks of an epoch, and which training watch each of their M watches is, int64 [M]."""
        rng = np.random.default_rng([self._context.seed, epoch, self.settings.shuffled_copies])
        positions_M = positions_of_copies(self._training, self.settings.shuffled_copies, rng)
        chunks = RollbackChunks(
            at_positions(self._training, positions_M),
            chunk_length=self.settings.chunk_length,
            history_length=self.settings.history_length,
            features=self.network.config.options.history.watch_features,
            targets=~self.held_back[positions_M],
        )
        return positions_M, chunks

    def _sample(self, epoch: int) -> NDArray[np.bool_] | None:
        """Draw the examples of an epoch, bool [N]; None, which is all of them, without a limit per user."""
        limit = self.settings.examples_per_user
        if not limit:
            return None
        return self._sample_watches(limit, np.random.default_rng([self._context.seed, epoch, limit]))

    def _sample_watches(self, limit: int, rng: np.random.Generator) -> NDArray[np.bool_]:
        return sampled_watches(self._training, ~self.held_back, limit, rng)

    def _loss(self, chunks: ChunkBatch, sampler: NegativeSampler | MixedSampler) -> Tensor:
        rows_BS = self._to_device(chunks.rows)
        labelled_BC = self._to_device(chunks.labelled)
        targets_N = rows_BS[:, self.settings.history_length :][labelled_BC]
        precision = self._context.precision
        kept_I = self._draw_kept()
        with torch.autocast(self._context.device.type, dtype=precision, enabled=precision is not torch.float32):
            user_NH = self._user_vectors(chunks, rows_BS, labelled_BC, kept_I)
        user_NH = user_NH.to(precision)
        if self._sampled:
            return self._sampled_loss(user_NH, targets_N, sampler, kept_I)
        excluded_NI = self._watched_before(chunks, labelled_BC) if self.settings.exclude_watched else None
        items_IH = self._item_vectors(None, kept_I)
        return full_softmax_loss(user_NH, items_IH.to(user_NH.dtype), targets_N, excluded_NI, self._logits)

    def _sampled_loss(
        self, user_NH: Tensor, targets_N: Tensor, sampler: NegativeSampler | MixedSampler, kept_I: Tensor | None
    ) -> Tensor:
        negatives_S, log_expected_counts_S = self._draw_negatives(targets_N, sampler)
        targets_NH, negatives_SH = (
            self._item_vectors(rows, kept_I).to(user_NH.dtype) for rows in (targets_N, negatives_S)
        )
        return sampled_softmax_loss(user_NH, targets_NH, targets_N, negatives_SH, negatives_S, log_expected_counts_S)

    def _draw_negatives(self, targets_N: Tensor, sampler: NegativeSampler | MixedSampler) -> tuple[Tensor, Tensor]:
        """Return the negatives of a step, and what their logits are lowered by: see NegativeSampler.draw."""
        negatives_S, log_expected_counts_S = (tensor.to(targets_N.device) for tensor in sampler.draw(targets_N))
        return negatives_S, log_expected_counts_S if self.settings.log_q else torch.zeros_like(log_expected_counts_S)

    def _draw_kept(self) -> Tensor | None:
        """Draw the items whose own parts count in a step, 0 or 1, float [I]; None where items have no parts."""
        if self.network.parts is None:
            return None
        draws_I = torch.rand(self.network.n_items, device=self._context.device)
        return (draws_I >= self.settings.id_dropout).float()

    def _item_vectors(self, rows: Tensor | None, kept_I: Tensor | None) -> Tensor:
        """The output vectors of some items, [N, H], or of all of them."""
        items_IH = self.network.item_vectors_IH
        own = items_IH if rows is None else F.embedding(rows, items_IH, sparse=True)
        parts = self.network.parts
        if parts is None or kept_I is None:
            return own
        return self._with_parts(own, parts.output or parts.embedding, rows, kept_I)

    def _with_parts(self, own: Tensor, part: AttributePart, rows: Tensor | None, kept_I: Tensor) -> Tensor:
        """Add the attribute parts of some items, or of all, to their own parts, as far as those count."""
        kept = kept_I if rows is None else kept_I[rows]
        of_attributes: Tensor = part(self._part_values if rows is None else [of[rows] for of in self._part_values])
        return own * kept.unsqueeze(-1) + of_attributes

    def _user_vectors(self, chunks: ChunkBatch, rows_BS: Tensor, labelled_BC: Tensor, kept_I: Tensor | None) -> Tensor:
        bags = self.network.bags
        assert bags is not None  # noqa: S101 - the settings' history_length is a number
        watched_BSE = self._watched_vectors(rows_BS)
        if self.network.parts is not None and kept_I is not None:
            own = watched_BSE.flatten(0, 1)
            watched_BSE = self._with_parts(own, self.network.parts.embedding, rows_BS.flatten(), kept_I)
            watched_BSE = watched_BSE.view(*rows_BS.shape, -1)
        codes_BSF = None
        if chunks.codes is not None:
            codes_BSF = self._withhold(self._to_device(chunks.codes))
            watched_BSE = watched_BSE + bags.code_vectors(codes_BSF)
        if self.network.attributes is not None:
            attributes_BSA = self.network.attributes(rows_BS.flatten()).unflatten(0, rows_BS.shape)
            watched_BSE = torch.cat([watched_BSE, attributes_BSA], dim=2)
        watched_BSE = watched_BSE * self._to_device(chunks.present).unsqueeze(-1)
        lengths_BC = self._to_device(chunks.history_lengths)
        summaries = bags.of_chunks(watched_BSE.to(self._context.precision), lengths_BC, codes_BSF)
        summaries_N = summaries[labelled_BC].to(self._context.precision)
        ages_N = None
        if self._ages_N is not None:
            ages_N = self._to_device(self._ages_N[self._positions_M[chunks.targets]])[labelled_BC]
        return self.network.user_vectors_of_summaries(summaries_N, self._dropout(), ages_N)

    def _watched_vectors(self, rows_BS: Tensor) -> Tensor:
        return F.embedding(rows_BS, self.network.embedding.weight, sparse=self._sampled)

    def _dropout(self) -> Dropout | None:
        return dropout_of(self.settings.dropout)

    def _withhold(self, codes_BSF: Tensor) -> Tensor:
        """Hide a feature of some chunks, as if from a caller who does not know it."""
        draws_BF = self._draw_of_chunks(len(codes_BSF), codes_BSF.shape[2])
        withheld_B1F = (draws_BF < self.settings.feature_dropout).unsqueeze(1)
        return codes_BSF.masked_fill(withheld_B1F, UNKNOWN_CODE)

    def _draw_of_chunks(self, chunk_count: int, feature_count: int) -> Tensor:
        """Return random numbers in [0, 1) for the chunks of a step, float [B, F]."""
        return torch.rand(chunk_count, feature_count, device=self._context.device)

    def _watched_before(self, chunks: ChunkBatch, labelled_BC: Tensor) -> Tensor:
        watched = self._chunks.watched_before(chunks)
        examples = np.repeat(np.arange(len(watched)), watched.lengths)
        at = self._to_device(np.stack([examples, watched.rows]))
        return torch.sparse_coo_tensor(
            at, at.new_ones(1).bool().expand(at.shape[1]), (len(watched), self.network.n_items), check_invariants=False
        )

    def _to_device(self, array: NDArray[np.generic]) -> Tensor:
        return torch.from_numpy(array).to(self._context.device)

    def _build_optimizers(self) -> list[torch.optim.Optimizer]:
        """Return Adam; with a sampled softmax SparseAdam for the tables, of which a step then touches few rows."""
        settings, network = self.settings, self.network
        tables = [network.embedding.weight]
        if not settings.options.tied_tables:
            tables.append(network.item_vectors_IH)
        positions = [
            parameter
            for name, parameter in network.named_parameters()
            if name in ("bags.log_weights", "bags.code_factors")
        ]
        apart = {id(parameter) for parameter in (*tables, *positions)}
        layers = [parameter for parameter in network.parameters() if id(parameter) not in apart]
        groups = [
            {"params": layers, "lr": settings.learning_rate},
            {"params": positions, "lr": settings.learning_rate * settings.position_learning_rate_factor},
        ]
        # Second moments over some 100 steps suit a run of a few thousand.
        betas = (0.9, 0.99)
        if self._sampled:
            return [
                torch.optim.Adam(groups, betas=betas, fused=True),
                torch.optim.SparseAdam(tables, lr=settings.learning_rate, betas=betas),
            ]
        groups.append({"params": tables, "lr": settings.learning_rate})
        return [torch.optim.Adam(groups, betas=betas, fused=True)]


def sampled_watches(
    histories: RaggedRows, eligible_N: NDArray[np.bool_], limit: int, rng: np.random.Generator
) -> NDArray[np.bool_]:
    """Draw up to `limit` of the eligible watches of each user, bool [N]; see sample_examples."""
    users, positions = sample_examples(histories, eligible_N, limit, rng)
    sampled_N = np.zeros(len(eligible_N), dtype=np.bool_)
    sampled_N[histories.offsets[users] + positions] = True
    return sampled_N


def samples_softmax(settings: CandidateSettings, item_count: int) -> bool:
    """Say whether the softmax is over a sample of the items."""
    return settings.softmax == "sampled" or (settings.softmax == "auto" and item_count > FULL_SOFTMAX_ITEM_LIMIT)


def complete_options(
    settings: CandidateSettings,
    weight_edges: Callable[[int], tuple[float, ...]],
    sides: Sequence[SideValues],
    parts: Sequence[SideValues],
) -> CandidateOptions:
    """Return the settings' options with what only the data can say: the ranges of weights, the sizes of attributes.

    `weight_edges` are the `quantile_edges`, for a number of ranges, of the weights of all training watches.
    """
    history = settings.options.history
    if history.watch_features is not None:
        edges = weight_edges(settings.weight_range_count)
        history = replace(history, watch_features=replace(history.watch_features, weight_edges=edges))
    return replace(settings.options, history=history, attributes=_shapes(sides), parts=_shapes(parts))


def _shapes(sides: Sequence[SideValues]) -> tuple[AttributeShape, ...]:
    return tuple(AttributeShape(value_count=side.value_count, values_per_item=side.values.shape[1]) for side in sides)
