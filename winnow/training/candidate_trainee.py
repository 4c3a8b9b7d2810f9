"""Trains the candidate network: the next watch as extreme multi-class classification (paper, section 3.1).

Shape legend: B chunks, C targets a chunk, S watches a chunk with its context, N examples, I items, E embedding_dim.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from winnow.evaluation.ranks import candidate_ranks, figures
from winnow.logs.rollback import sample_examples
from winnow.logs.side_values import SideValues
from winnow.logs.split import LogSplit, held_back
from winnow.networks.candidate import DeepCandidateGenerationModel
from winnow.networks.options import AttributeShape, CandidateOptions
from winnow.networks.watch_features import UNKNOWN_CODE, quantile_edges
from winnow.training.example_age import example_ages
from winnow.training.examples import ChunkBatch, RollbackChunks
from winnow.training.losses import MixedSampler, NegativeSampler, full_softmax_loss, sampled_softmax_loss
from winnow.training.precision import Precision
from winnow.training.presets import CandidateSettings

# Up to here the softmax over all items is both exact and fast enough.
FULL_SOFTMAX_ITEM_LIMIT = 100_000


class CandidateStage:
    """The candidate network in training; see winnow.training.loop.Stage."""

    name = "candidate network"

    def __init__(
        self,
        split: LogSplit,
        watch_counts: NDArray[np.int64],
        settings: CandidateSettings,
        *,
        sides: Sequence[SideValues] = (),
        seed: int,
        precision: Precision,
        device: torch.device,
    ) -> None:
        """`watch_counts`, int64 [I], counts the training watches of every item; `sides` are the attribute columns."""
        item_count = len(watch_counts)
        self.network = DeepCandidateGenerationModel(
            item_count,
            settings.embedding_dim,
            settings.hidden_dim,
            settings.n_hidden_layers,
            seed,
            _complete_options(settings, split, sides),
        ).to(device)
        if self.network.attributes is not None:
            self.network.attributes.fill([torch.from_numpy(side.values) for side in sides])
        # Watches that this network is not taught to predict, bool [N]: ranking's examples.
        self.held_back = held_back(split.training, settings.held_back_share, seed=seed)
        self._training = split.training
        self._ages_N = example_ages(split.training) if settings.options.example_age else None
        self._settings = settings
        self._validation = split.validation
        self._seed = seed
        self._precision = precision
        self._device = device
        self._chunks = RollbackChunks(
            split.training,
            chunk_length=settings.chunk_length,
            history_length=settings.history_length,
            features=self.network.config.options.history.watch_features,
            targets=~self.held_back,
        )
        self._watch_counts = watch_counts
        self._sampled = settings.softmax == "sampled" or (
            settings.softmax == "auto" and item_count > FULL_SOFTMAX_ITEM_LIMIT
        )
        self.optimizers = self._build_optimizers()
        self.steps_per_epoch = -(-len(self._chunks) // settings.chunks_per_batch)

    def losses(self, epoch: int) -> Iterator[tuple[Tensor, int]]:
        """One step a batch of chunks, in an order that is new in every epoch."""
        order = np.random.default_rng([self._seed, epoch]).permutation(len(self._chunks))
        sampler = (MixedSampler if self._settings.negatives == "mixed" else NegativeSampler)(
            torch.from_numpy(self._watch_counts),
            sample_count=self._settings.negative_count,
            generator=torch.Generator().manual_seed(self._seed + epoch),
        )
        sampled_N = self._sample(epoch)
        for batch in np.array_split(order, self.steps_per_epoch):
            chunks = self._chunks.batch(batch)
            if sampled_N is not None:
                chunks = replace(chunks, labelled=chunks.labelled & sampled_N[chunks.targets])
            example_count = int(chunks.labelled.sum())
            if example_count:
                yield self._loss(chunks, sampler), example_count

    def validate(self) -> Mapping[str, float]:
        """Return the figures, HR@10 first: it still rises when HR@200 has levelled, and ranking builds on the order."""
        found = figures(candidate_ranks(self.network, self._validation), self._validation.users)
        return {name: found[name] for name in ("hr_at_10", "hr_at_200", "ndcg_at_10")}

    def _sample(self, epoch: int) -> NDArray[np.bool_] | None:
        """Draw the examples of an epoch, bool [N], where users have a limit."""
        limit = self._settings.examples_per_user
        if not limit:
            return None
        rng = np.random.default_rng([self._seed, epoch, limit])
        users, positions = sample_examples(self._training, ~self.held_back, limit, rng)
        sampled_N = np.zeros(len(self.held_back), dtype=np.bool_)
        sampled_N[self._training.offsets[users] + positions] = True
        return sampled_N

    def _loss(self, chunks: ChunkBatch, sampler: NegativeSampler | MixedSampler) -> Tensor:
        rows_BS = self._to_device(chunks.rows)
        labelled_BC = self._to_device(chunks.labelled)
        targets_N = rows_BS[:, self._settings.history_length :][labelled_BC]
        with self._precision.autocast(self._device):
            user_NH = self._user_vectors(chunks, rows_BS, labelled_BC)
        user_NH = user_NH.to(self._precision.dtype)
        items_IH = self.network.item_vectors_IH
        if self._sampled:
            negatives_S, log_expected_counts_S = (tensor.to(self._device) for tensor in sampler.draw(targets_N))
            if not self._settings.log_q:
                log_expected_counts_S = torch.zeros_like(log_expected_counts_S)
            targets_NH, negatives_SH = (
                F.embedding(rows, items_IH, sparse=True).to(user_NH.dtype) for rows in (targets_N, negatives_S)
            )
            return sampled_softmax_loss(
                user_NH, targets_NH, targets_N, negatives_SH, negatives_S, log_expected_counts_S
            )
        excluded_NI = self._watched_before(chunks, labelled_BC) if self._settings.exclude_watched else None
        return full_softmax_loss(user_NH, items_IH.to(user_NH.dtype), targets_N, excluded_NI)

    def _user_vectors(self, chunks: ChunkBatch, rows_BS: Tensor, labelled_BC: Tensor) -> Tensor:
        bags = self.network.bags
        assert bags is not None  # noqa: S101 - the settings' history_length is a number
        watched_BSE = F.embedding(rows_BS, self.network.embedding.weight, sparse=self._sampled)
        codes_BSF = None
        if chunks.codes is not None:
            codes_BSF = self._withhold(self._to_device(chunks.codes))
            watched_BSE = watched_BSE + bags.code_vectors(codes_BSF)
        if self.network.attributes is not None:
            attributes_BSA = self.network.attributes(rows_BS.flatten()).view(*rows_BS.shape, -1)
            watched_BSE = torch.cat([watched_BSE, attributes_BSA], dim=2)
        watched_BSE = watched_BSE * self._to_device(chunks.present).unsqueeze(-1)
        lengths_BC = self._to_device(chunks.history_lengths)
        summaries = bags.of_chunks(watched_BSE.to(self._precision.dtype), lengths_BC, codes_BSF)
        summaries_N = summaries[labelled_BC].to(self._precision.dtype)
        ages_N = None if self._ages_N is None else self._to_device(self._ages_N[chunks.targets])[labelled_BC]
        return self.network.user_vectors_of_summaries(summaries_N, self._settings.dropout, ages_N)

    def _withhold(self, codes_BSF: Tensor) -> Tensor:
        """Hide one feature or the other of some chunks, as of a caller who does not know it."""
        shape = len(codes_BSF), 1, codes_BSF.shape[2]
        withheld = torch.rand(shape, device=codes_BSF.device) < self._settings.feature_dropout
        return codes_BSF.masked_fill(withheld, UNKNOWN_CODE)

    def _watched_before(self, chunks: ChunkBatch, labelled_BC: Tensor) -> Tensor:
        first_BI = self._to_device(self._chunks.first_watches(chunks.users, self.network.n_items))
        positions_BC = self._to_device(chunks.history_lengths).to(first_BI.dtype)
        return (first_BI.unsqueeze(1) < positions_BC.unsqueeze(2))[labelled_BC]

    def _to_device(self, array: NDArray[np.generic]) -> Tensor:
        return torch.from_numpy(array).to(self._device)

    def _build_optimizers(self) -> list[torch.optim.Optimizer]:
        """Adam. With a sampled softmax a step touches few rows of the tables, so that theirs is the sparse one."""
        settings, network = self._settings, self.network
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
        # A second-moment window of 100 steps suits a run of a few thousand.
        betas = (0.9, 0.99)
        if self._sampled:
            return [
                torch.optim.Adam(groups, betas=betas, fused=True),
                torch.optim.SparseAdam(tables, lr=settings.learning_rate, betas=betas),
            ]
        groups.append({"params": tables, "lr": settings.learning_rate})
        return [torch.optim.Adam(groups, betas=betas, fused=True)]


def _complete_options(settings: CandidateSettings, split: LogSplit, sides: Sequence[SideValues]) -> CandidateOptions:
    """Return the settings' options with what only the data can say: the ranges of weights, the sizes of attributes."""
    history = settings.options.history
    if history.watch_features is not None:
        weight_edges = quantile_edges(split.training.weights, settings.weight_range_count)
        history = replace(history, watch_features=replace(history.watch_features, weight_edges=weight_edges))
    attributes = [AttributeShape(value_count=side.value_count, values_per_item=side.values.shape[1]) for side in sides]
    return replace(settings.options, history=history, attributes=tuple(attributes))
