"""Trains the candidate network by several processes: the same steps as CandidateTrainee takes in one.

A step has the chunks that it has in one process, each trained on where its user is. All random numbers are those of one
process. So losses differ by rounding only, however many processes there are.

Shape legend: B chunks of a step in all processes, b those of this process, N and n examples likewise, I items, H
hidden_dim, S negatives, F features of a watch.
"""

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from winnow.evaluation.rank_figures import rank_figures
from winnow.logs.side_values import SideValues
from winnow.logs.split import held_back
from winnow.networks.options import CandidateConfig, CandidateOptions
from winnow.networks.tower import Dropout
from winnow.training.candidate_trainee import CandidateTrainee, sampled_watches
from winnow.training.distributed.dense_parts import in_parallel
from winnow.training.distributed.global_draws import DropoutOfPart
from winnow.training.distributed.mean_loss import mean_over_processes
from winnow.training.distributed.own_part import OwnPart
from winnow.training.distributed.processes import Processes
from winnow.training.distributed.sharded_candidate_network import ShardedCandidateNetwork
from winnow.training.distributed.sharded_ranks import gathered_ranks, sharded_candidate_ranks
from winnow.training.losses import sampled_softmax_loss
from winnow.training.negatives import MixedSampler, NegativeSampler
from winnow.training.presets import CandidateSettings
from winnow.training.rollback_chunks import ChunkBatch, chunk_counts
from winnow.training.run_context import RunContext


class ShardedCandidateTrainee(CandidateTrainee):
    """The candidate network in training, in one of several processes; all its methods are collective."""

    network: ShardedCandidateNetwork

    def __init__(
        self,
        own: OwnPart,
        watch_counts: NDArray[np.int64],
        settings: CandidateSettings,
        context: RunContext,
        processes: Processes,
        *,
        options: CandidateOptions,
        sides: Sequence[SideValues] = (),
    ) -> None:
        """Draw the network. `watch_counts`, int64 [I], counts the training watches of all users.

        `options` are those of `complete_options` for the whole log.
        """
        self._own = own
        self._processes = processes
        self._options = options
        super().__init__(own.split, watch_counts, settings, context, sides=sides)
        self._parallel = in_parallel(self.network, processes)
        # Where each chunk of the log is here, int64 [all chunks]; -1 where it is of another process.
        counts_U = chunk_counts(own.lengths, settings.chunk_length)
        self._here = np.full(int(counts_U.sum()), -1, dtype=np.int64)
        self._here[own.own_of_lists(counts_U)] = np.arange(len(self._chunks))
        self.steps_per_epoch = -(-len(self._here) // settings.chunks_per_batch)
        # The step: how many chunks and examples it has in all processes, and the places of those here among them.
        self._chunk_count = self._example_count = 0
        self._chunk_places_b = np.empty(0, dtype=np.int64)
        self._example_places_n = torch.empty(0, dtype=torch.int64)

    def validate(self) -> Mapping[str, float]:
        """See CandidateTrainee.validate: the figures of all users, in every process."""
        validation = self._own.split.validation
        own_ranks = sharded_candidate_ranks(self.network, validation, self._processes)
        found = rank_figures(*gathered_ranks(own_ranks, validation.users, self._processes))
        return {name: found[name] for name in ("hr_at_10", "hr_at_200", "ndcg_at_10")}

    def _build_network(self, config: CandidateConfig) -> ShardedCandidateNetwork:
        return ShardedCandidateNetwork(config, self._processes)

    def _complete_options(self, sides: Sequence[SideValues], parts: Sequence[SideValues]) -> CandidateOptions:
        return self._options

    def _hold_back(self) -> NDArray[np.bool_]:
        return self._held_back_of_all()[self._own.own_of_lists(self._own.lengths)]

    def _held_back_of_all(self) -> NDArray[np.bool_]:
        watch_count = int(self._own.lengths.sum())
        return held_back(watch_count, self.settings.held_back_share, seed=self._context.seed)

    def _sample_watches(self, limit: int, rng: np.random.Generator) -> NDArray[np.bool_]:
        drawn = sampled_watches(self._own.all_lists, ~self._held_back_of_all(), limit, rng)
        return drawn[self._own.own_of_lists(self._own.lengths)]

    def _time_span(self) -> tuple[int, int]:
        return self._own.time_span

    def _batches(self, epoch: int, _chunk_count: int) -> Iterator[NDArray[np.int64]]:
        for batch in super()._batches(epoch, len(self._here)):
            here = self._here[batch]
            self._chunk_count = len(batch)
            self._chunk_places_b = np.flatnonzero(here >= 0)
            yield here[self._chunk_places_b]

    def _count_examples(self, chunks: ChunkBatch) -> int:
        """Count the examples of the step in all processes, and find the places of those here."""
        counts_B = torch.zeros(self._chunk_count, dtype=torch.int64, device=self._processes.device)
        counts_b = torch.from_numpy(chunks.labelled.sum(axis=1)).to(counts_B)
        places_b = torch.from_numpy(self._chunk_places_b).to(self._processes.device)
        counts_B[places_b] = counts_b
        self._processes.total(counts_B)
        firsts_b = (counts_B.cumsum(0) - counts_B)[places_b]
        within_n = torch.arange(int(counts_b.sum()), device=counts_b.device)
        starts_n = (firsts_b - counts_b.cumsum(0) + counts_b).repeat_interleave(counts_b)
        self._example_places_n = starts_n + within_n
        self._example_count = int(counts_B.sum())
        return self._example_count

    def _user_vectors(self, chunks: ChunkBatch, rows_BS: Tensor, labelled_BC: Tensor, kept_I: Tensor | None) -> Tensor:
        user_nH: Tensor = self._parallel(super()._user_vectors, chunks, rows_BS, labelled_BC, kept_I)
        return user_nH

    def _watched_vectors(self, rows_BS: Tensor) -> Tensor:
        vectors: Tensor = self.network.embedding(rows_BS)
        return vectors

    def _dropout(self) -> Dropout | None:
        share = self.settings.dropout
        if not share:
            return None
        return DropoutOfPart(share=share, own_n=self._example_places_n, count=self._example_count)

    def _draw_of_chunks(self, chunk_count: int, feature_count: int) -> Tensor:
        return super()._draw_of_chunks(self._chunk_count, feature_count)[torch.from_numpy(self._chunk_places_b)]

    def _sampled_loss(
        self, user_NH: Tensor, targets_N: Tensor, sampler: NegativeSampler | MixedSampler, _kept_I: Tensor | None
    ) -> Tensor:
        targets = targets_N
        if isinstance(sampler, MixedSampler):
            targets = torch.cat(self._processes.gather(targets_N))
        negatives_S, log_expected_counts_S = self._draw_negatives(targets, sampler)
        vectors: Tensor = self.network.output_table(torch.cat([targets_N, negatives_S])).to(user_NH.dtype)
        targets_NH, negatives_SH = torch.split(vectors, [len(targets_N), len(negatives_S)])
        if len(targets_N):
            loss = sampled_softmax_loss(
                user_NH, targets_NH, targets_N, negatives_SH, negatives_S, log_expected_counts_S
            )
        else:
            # This process has no example in the step, but the others wait for its part of the backward pass.
            loss = (user_NH.sum() + vectors.sum()).float() * 0
        return mean_over_processes(loss, len(targets_N), self._example_count, self._processes)
