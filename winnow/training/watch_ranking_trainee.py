"""Trains the ranking network on watches: which of the candidates that the candidate network returns was watched next.

Shape legend: N examples, K candidates per example, S sampled negatives per example.
"""

from collections.abc import Iterator, Mapping

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from winnow.catalogue.item_facts import ItemFacts
from winnow.evaluation.rank_figures import Ranks, rank_figures
from winnow.evaluation.ranks import chain_ranks, rectangle, top_candidates
from winnow.history import RaggedRows
from winnow.logs.rollback import sample_examples, visible_before
from winnow.logs.split import LogSplit
from winnow.networks.candidate import DeepCandidateGenerationModel
from winnow.networks.features.continuous import ContinuousFeatures
from winnow.networks.features.registry import FEATURES
from winnow.networks.matching import Matching
from winnow.networks.options import MatchingOptions, RankingOptions, SuccessionOptions
from winnow.networks.ranking import DeepRankingModel
from winnow.networks.recalibration import WHOLE_CORRECTION, CorrectionFactors, scale_correction
from winnow.networks.successions import MATCHING_FEATURE, Successions
from winnow.training.correction import Correction, fit_correction
from winnow.training.losses import candidate_list_loss
from winnow.training.negatives import WatchedItems
from winnow.training.presets import RankingSettings
from winnow.training.ranking_network import ranking_network_over, with_neighbours
from winnow.training.run_context import RunContext
from winnow.training.succession_counts import SuccessionTable, count_successions, some_users

# The features are standardised by the candidates of this many examples.
STANDARD_EXAMPLES = 512
# The quantiles of continuous features are those of the candidates of this many examples.
QUANTILE_EXAMPLES = 2048
# Successions are counted in memory: of a larger log, those of some users.
COUNTED_WATCHES = 5_000_000
SMALLEST_SCALE = 1e-3


class WatchRankingTrainee:
    """The ranking network in training on watches; see Trainee.

    The history of an example goes through the trained candidate network as in serving. Among the candidates that it
    returns, the one that was watched next is the positive, and those that the user never watches are the negatives.
    """

    name = "ranking"

    def __init__(
        self,
        split: LogSplit,
        candidate_network: DeepCandidateGenerationModel,
        settings: RankingSettings,
        context: RunContext,
        *,
        held_back: NDArray[np.bool_],
        facts: ItemFacts | None = None,
    ) -> None:
        """Build the network. `facts` is what continuous features read of the items; None is nothing.

        `held_back`, bool [N], are the training watches that the candidate network has not learned to predict: the
        examples. Where none of them has a history, all watches are examples.
        """
        seed, device = context.seed, context.device
        self._training = split.training
        with_history = np.ones_like(held_back)
        with_history[split.training.offsets[:-1][split.training.lengths > 0]] = False
        self._examples = held_back if (held_back & with_history).any() else with_history
        table = None
        if settings.matching and settings.latest_count:
            table = count_successions(
                *some_users(split.training, ~held_back, COUNTED_WATCHES, seed=seed),
                candidate_network.n_items,
                successors_per_item=settings.successors_per_item,
            )
        self.network = build_ranking_network(candidate_network, settings, table, seed=seed).to(device)
        # Before training, the order is that of the candidates.
        self.counts_untrained = settings.matching
        self._watched = WatchedItems(split.training, candidate_network.n_items, device)
        self._candidate_network = candidate_network
        self.settings = settings
        self._validation = split.validation
        self._seed = seed
        self._device = device
        self.optimizers: list[torch.optim.Optimizer] = [
            torch.optim.Adam(
                [parameter for parameter in self.network.parameters() if parameter.requires_grad],
                lr=settings.learning_rate,
                betas=(0.9, 0.99),
                fused=True,
            )
        ]
        users, positions = self._sample(np.random.default_rng(seed))
        self.steps_per_epoch = -(-len(users) // settings.examples_per_batch)
        matching = self.network.matching
        if matching is not None and matching.successions is not None:
            examples = users[:STANDARD_EXAMPLES], positions[:STANDARD_EXAMPLES]
            self._standardise(matching, matching.successions, *examples)
        if self.network.features is not None:
            if facts is not None:
                self.network.features.items.fill(facts)
            self._fit_features(self.network.features, users[:QUANTILE_EXAMPLES], positions[:QUANTILE_EXAMPLES])

    def losses(self, epoch: int) -> Iterator[tuple[Tensor, int]]:
        """Yield one step per batch of examples, with a new sample of each user's watches every epoch."""
        rng = np.random.default_rng([self._seed, epoch])
        users, positions = self._sample(rng)
        order = rng.permutation(len(users))
        for batch in np.array_split(order, self.steps_per_epoch):
            yield self._loss(users[batch], positions[batch]), len(batch)

    def validate(self) -> Mapping[str, float]:
        """Return the figures of the whole chain, NDCG@10 first: ranking is there to put the target at the top.

        With matching, they are those of as much of the correction as validates best: see `use_correction`.
        """
        ranks = self._fit().ranks if self.settings.matching else self._chain_ranks()
        found = rank_figures(ranks, self._validation.users)
        return {name: found[name] for name in ("ndcg_at_10", "hr_at_10", "mrr")}

    def take_neighbours(self, candidate_network: DeepCandidateGenerationModel) -> None:
        """Go on with the candidate network that Neighbours were added to: they become part of this network's logit.

        Training is better off without them: in the log that they are counted in, they know the targets.
        """
        self._candidate_network = candidate_network
        self.network = with_neighbours(self.network, candidate_network.neighbours.tables)

    def use_correction(self) -> CorrectionFactors:
        """Make the network use as much of its correction of the candidates' order as validates best; return how much.

        Without matching there is nothing to correct, and all is used.
        """
        if not self.settings.matching:
            return WHOLE_CORRECTION
        factors = self._fit().factors
        scale_correction(self.network, factors, 0.0)
        return factors

    def _fit(self) -> Correction:
        count = self.settings.candidate_count
        return fit_correction(self._candidate_network, self.network, self._validation, candidate_count=count)

    def _chain_ranks(self) -> Ranks:
        count = self.settings.candidate_count
        return chain_ranks(self._candidate_network, self.network, self._validation, candidate_count=count)

    def _loss(self, users: NDArray[np.int64], positions: NDArray[np.int64]) -> Tensor:
        settings = self.settings
        watched = visible_before(self._training, users, positions)
        at_targets = self._training.offsets[users] + positions
        targets_N = torch.from_numpy(self._training.rows[at_targets]).to(self._device)
        weights_N = torch.full((len(users),), settings.positive_weight, device=self._device)
        if settings.weighted:
            weights_N *= torch.from_numpy(self._training.weights[at_targets]).to(self._device)
        candidates_NK = top_candidates(self._candidate_network, watched, candidate_count=settings.candidate_count)
        # The target, if it was returned, and a sample of the list, in which all that the user watches, the target
        # included, gets the weight 0: what is watched a little later is no worse than the target.
        returned_N = (candidates_NK == targets_N.unsqueeze(1)).any(dim=1)
        drawn_NS = torch.randint(candidates_NK.shape[1], (len(users), settings.negative_count), device=self._device)
        negatives_NS = candidates_NK.gather(1, drawn_NS)
        negative_weights_NS = (~self._watched.among(users, negatives_NS)).float()
        negative_weights_NS *= candidates_NK.shape[1] / settings.negative_count
        scored = torch.cat([targets_N.unsqueeze(1), negatives_NS], dim=1)
        logits = self._logits(watched, scored)
        return candidate_list_loss(logits, weights_N * returned_N, negative_weights_NS)

    def _sample(self, rng: np.random.Generator) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        return sample_examples(self._training, self._examples, self.settings.examples_per_user, rng)

    @torch.inference_mode()
    def _standardise(
        self, matching: Matching, successions: Successions, users: NDArray[np.int64], positions: NDArray[np.int64]
    ) -> None:
        """Give the features of the candidates of some examples the mean 0 and the deviation 1."""
        watched = visible_before(self._training, users, positions)
        candidates_NK = top_candidates(self._candidate_network, watched, candidate_count=self.settings.candidate_count)
        requests = self.network.pack(watched), rectangle(candidates_NK)
        features = successions.features(*requests, matching.network.candidate_logits(*requests))
        successions.feature_means.copy_(features.mean(dim=0))
        successions.feature_scales.copy_(features.std(dim=0).clamp_min(SMALLEST_SCALE))
        # The level of softmax logits is arbitrary: begin where the probabilities of the candidates sum to about one.
        successions.output.bias.fill_(-float(features[:, MATCHING_FEATURE].view_as(candidates_NK).logsumexp(1).mean()))

    @torch.inference_mode()
    def _fit_features(
        self, features: ContinuousFeatures, users: NDArray[np.int64], positions: NDArray[np.int64]
    ) -> None:
        """Learn the quantiles of the features from the candidates of some examples."""
        watched = visible_before(self._training, users, positions)
        candidates_NK = top_candidates(self._candidate_network, watched, candidate_count=self.settings.candidate_count)
        requests = self.network.pack(watched), rectangle(candidates_NK)
        features.quantiles.fit(features.raw(*requests, self.network.candidate_network))

    def _logits(self, watched: RaggedRows, scored: Tensor) -> Tensor:
        logits_N = self.network.logits(
            self.network.pack(watched),
            rectangle(scored),
            self.network.item_halves(),
        )
        return logits_N.view_as(scored)


def build_ranking_network(
    candidate_network: DeepCandidateGenerationModel,
    settings: RankingSettings,
    table: SuccessionTable | None,
    *,
    seed: int,
) -> DeepRankingModel:
    """Return the network that training begins with.

    Raises ValueError where the settings have `matching` and another embedding_dim than the candidate network, and for
    a feature that only impressions have.
    """
    candidate_dim = candidate_network.embedding.embedding_dim
    if settings.matching and settings.embedding_dim != candidate_dim:
        raise ValueError(
            f"the ranking network's embedding_dim is {settings.embedding_dim}: "
            f"with matching it must be {candidate_dim}, as in the candidate network"
        )
    network = ranking_network_over(
        candidate_network,
        embedding_dim=settings.embedding_dim,
        hidden_dim=settings.hidden_dim,
        n_hidden_layers=settings.n_hidden_layers,
        seed=seed,
        options=RankingOptions(
            matching=_matching(candidate_network, settings, table), features=checked_features(settings.features)
        ),
    )
    if network.matching is None:
        return network
    if network.matching.successions is not None and table is not None:
        columns = table.keys, table.lifts, table.unseen_lifts, table.log_popularity
        network.matching.successions.fill(*map(torch.from_numpy, columns))
    # The candidate network has learned these from many more examples than there are here.
    network.embedding.requires_grad_(requires_grad=False)
    if network.bags is not None:
        network.bags.requires_grad_(requires_grad=False)
    # Training begins with the order of the candidates.
    torch.nn.init.zeros_(network.output.weight)
    return network


def checked_features(names: tuple[str, ...]) -> tuple[str, ...]:
    """Return the names. Raises ValueError for a feature of the request, which a log of watches does not have."""
    of_requests = [name for name in names if name in FEATURES and FEATURES[name].reads_context]
    if of_requests:
        raise ValueError(f"features: {', '.join(of_requests)}: only a log of impressions has what they read")
    return names


def _matching(
    candidate_network: DeepCandidateGenerationModel, settings: RankingSettings, table: SuccessionTable | None
) -> MatchingOptions | None:
    if not settings.matching:
        return None
    successions = None
    if table is not None:
        successions = SuccessionOptions(pair_count=len(table.keys), latest_count=settings.latest_count)
    return MatchingOptions(network=candidate_network.config, successions=successions)
