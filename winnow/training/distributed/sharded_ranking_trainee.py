"""Trains the ranking network by several processes: the same steps as WatchRankingTrainee takes in one.

Shape legend: N examples of a step in all processes, n those of this process, K candidates per example, S negatives per
example, U users of the log.
"""

from collections.abc import Iterator, Mapping, Sequence
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from winnow.evaluation.rank_figures import Ranks, rank_figures
from winnow.evaluation.ranks import corrected_ranks_of_block, rectangle
from winnow.history import RaggedRows
from winnow.logs.rollback import sample_examples
from winnow.logs.split import HeldOut
from winnow.networks.matching import Matching
from winnow.networks.ranking import DeepRankingModel
from winnow.networks.recalibration import CorrectionFactors
from winnow.networks.successions import Successions
from winnow.training.correction import Correction, best_correction, possible_factors
from winnow.training.distributed.dense_parts import in_parallel
from winnow.training.distributed.mean_loss import mean_over_processes
from winnow.training.distributed.own_part import OwnPart
from winnow.training.distributed.processes import Processes
from winnow.training.distributed.sharded_candidate_network import ShardedCandidateNetwork
from winnow.training.distributed.sharded_ranking_network import ShardedRankingNetwork
from winnow.training.distributed.sharded_ranks import equal_blocks, gathered_ranks, sharded_top_candidates
from winnow.training.presets import RankingSettings
from winnow.training.run_context import RunContext
from winnow.training.succession_counts import SuccessionTable
from winnow.training.watch_ranking_trainee import WatchRankingTrainee, build_ranking_network, eligible_examples


class ShardedRankingTrainee(WatchRankingTrainee):
    """The ranking network in training, in one of several processes; all its methods are collective."""

    network: ShardedRankingNetwork
    _candidate_network: ShardedCandidateNetwork

    def __init__(
        self,
        own: OwnPart,
        candidate_network: ShardedCandidateNetwork,
        settings: RankingSettings,
        context: RunContext,
        processes: Processes,
        *,
        held_back: NDArray[np.bool_],
        successions: SuccessionTable | None,
    ) -> None:
        """Build the network. `held_back`, bool [N], and `successions` are those of the whole log."""
        self._own = own
        self._processes = processes
        self._successions = successions
        self._here_U = own.here()
        self._all_lists = own.all_lists
        self._all_examples = eligible_examples(self._all_lists, held_back)
        # The step: how many examples it has in all processes, and the places of those here among them.
        self._example_count = 0
        self._places_n = np.empty(0, dtype=np.int64)
        own_held_back = held_back[own.own_of_lists(own.lengths)]
        super().__init__(own.split, candidate_network, settings, context, held_back=own_held_back)
        self._parallel = in_parallel(self.network, processes)

    def losses(self, epoch: int) -> Iterator[tuple[Tensor, int]]:
        """See WatchRankingTrainee.losses."""
        rng = np.random.default_rng([self._seed, epoch])
        users, positions = self._sample(rng)
        order = rng.permutation(len(users))
        for batch in np.array_split(order, self.steps_per_epoch):
            self._example_count = len(batch)
            lists = self._here_U[users[batch]]
            self._places_n = np.flatnonzero(lists >= 0)
            own_loss = self._loss(lists[self._places_n], positions[batch][self._places_n])
            loss = mean_over_processes(own_loss, len(self._places_n), len(batch), self._processes)
            yield loss, len(batch)

    def validate(self) -> Mapping[str, float]:
        """See WatchRankingTrainee.validate: the figures of all users, in every process."""
        correction, users = self._fit_on_all()
        found = rank_figures(correction.ranks, users)
        return {name: found[name] for name in ("ndcg_at_10", "hr_at_10", "mrr")}

    def _fit(self) -> Correction:
        return self._fit_on_all()[0]

    def _fit_on_all(self) -> tuple[Correction, NDArray[np.int64]]:
        """Fit the correction on the validation watches of all processes; return whose these are, int64."""
        factors = possible_factors(self.network)
        own = self._own.split.validation
        of_blocks = [self._corrected_ranks(block, factors) for block in equal_blocks(own, self._processes)]
        gathered = [
            gathered_ranks(np.concatenate(of_factor), own.users, self._processes)
            for of_factor in zip(*of_blocks, strict=True)
        ]
        users = gathered[0][1]
        return best_correction(factors, [ranks for ranks, _ in gathered], users), users

    @torch.inference_mode()
    def _corrected_ranks(self, block: HeldOut, factors: Sequence[CorrectionFactors]) -> list[Ranks]:
        candidates_BK = self._top_candidates(block.histories)
        logits_N = self.network.logits(self.network.pack(block.histories), rectangle(candidates_BK))
        return corrected_ranks_of_block(
            self._candidate_network, self.network, block, candidates_BK, logits_N.view_as(candidates_BK), factors
        )

    def _count_successions(self, _held_back: NDArray[np.bool_]) -> SuccessionTable:
        assert self._successions is not None  # noqa: S101 - counted where the settings have it
        return self._successions

    def _build_network(self, table: SuccessionTable | None) -> DeepRankingModel:
        build = partial(ShardedRankingNetwork, self._candidate_network)
        return build_ranking_network(self._candidate_network, self.settings, table, seed=self._seed, build=build)

    def _sample(self, rng: np.random.Generator) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Draw the examples of all processes."""
        return sample_examples(self._all_lists, self._all_examples, self.settings.examples_per_user, rng)

    def _standardise(
        self, matching: Matching, successions: Successions, users: NDArray[np.int64], positions: NDArray[np.int64]
    ) -> None:
        lists = self._here_U[users]
        here = lists >= 0
        super()._standardise(matching, successions, lists[here], positions[here])

    def _of_all_examples(self, features: Tensor) -> Tensor:
        return torch.cat(self._processes.gather(features))

    def _top_candidates(self, watched: RaggedRows) -> Tensor:
        count = self.settings.candidate_count
        return sharded_top_candidates(self._candidate_network, watched, self._processes, candidate_count=count)

    def _draw_places(self, _example_count: int, list_length: int) -> Tensor:
        return super()._draw_places(self._example_count, list_length)[torch.from_numpy(self._places_n)]

    def _logits(self, watched: RaggedRows, scored: Tensor) -> Tensor:
        logits_N: Tensor = self._parallel(self.network.logits, self.network.pack(watched), rectangle(scored))
        return logits_N.view_as(scored)
