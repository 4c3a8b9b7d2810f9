"""Trains the ranking network on impressions: logistic regression weighted by watch time (paper, section 4.2).

Shape legend: N impressions, R features, C columns of the features.
"""

import math
from collections.abc import Iterator, Mapping

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from winnow.catalogue.item_facts import ItemFacts
from winnow.evaluation.impression_figures import order_figures
from winnow.evaluation.impression_scores import by_block, impression_logits, impression_scores, pack_impressions
from winnow.logs.impression_log import ImpressionSplit
from winnow.logs.impressions import Impressions
from winnow.networks.candidate import DeepCandidateGenerationModel
from winnow.networks.options import MatchingOptions, RankingOptions
from winnow.networks.ranking import DeepRankingModel
from winnow.networks.recalibration import rescale
from winnow.networks.tower import dropout_of
from winnow.training.losses import click_loss, watch_time_loss
from winnow.training.presets import ImpressionSettings
from winnow.training.ranking_network import ranking_network_over
from winnow.training.run_context import RunContext

SMALLEST_FACTOR = 0.01


class ImpressionRankingTrainee:
    """The ranking network in training on impressions; see Trainee.

    An example is an impression: its time, what the user had watched before, and for how long it was watched, if at all.
    """

    name = "ranking"
    counts_untrained = False

    def __init__(
        self,
        split: ImpressionSplit,
        candidate_network: DeepCandidateGenerationModel,
        facts: ItemFacts,
        settings: ImpressionSettings,
        context: RunContext,
    ) -> None:
        """Build the network. `candidate_network` must have learned only from what is earlier than the impressions."""
        seed, device = context.seed, context.device
        self.network = build_impression_network(candidate_network, facts, settings, seed=seed).to(device)
        self._training = split.training
        self._validation = split.validation
        self.settings = settings
        self._seed = seed
        self._device = device
        self._columns_NC = self._fit_features()
        embeddings = [self.network.embedding.weight]
        others = [
            parameter
            for name, parameter in self.network.named_parameters()
            if parameter.requires_grad and name != "embedding.weight"
        ]
        self.optimizers: list[torch.optim.Optimizer] = [
            torch.optim.AdamW(
                [
                    {"params": embeddings, "weight_decay": settings.embedding_decay},
                    {"params": others, "weight_decay": settings.weight_decay},
                ],
                lr=settings.learning_rate,
                fused=True,
            )
        ]
        self.steps_per_epoch = -(-len(self._training) // settings.impressions_per_batch)

    def losses(self, epoch: int) -> Iterator[tuple[Tensor, int]]:
        """Yield one step per batch of impressions, in a new order every epoch."""
        order = np.random.default_rng([self._seed, epoch]).permutation(len(self._training))
        for batch in np.array_split(order, self.steps_per_epoch):
            yield self._loss(batch), len(batch)

    def validate(self) -> Mapping[str, float]:
        """Return the figures on validation, the watch time of the pairs in the right order first."""
        scores = impression_scores(self.network, self._validation)
        validation = self._validation
        found = order_figures(validation.users, scores, validation.clicked, validation.watch_seconds)
        return {
            "watch_time_in_order": 1 - found["weighted_per_user_loss"],
            "auc_by_user": found["auc_by_user"],
            "expected_over_actual": float(scores.mean() / validation.watch_seconds.mean()),
        }

    def recalibrate(self) -> None:
        """Scale and shift the logits so that they fit the validation impressions best.

        This corrects what the network has overfitted, and what has changed since the training impressions. The order of
        the scores stays. An expected watch time is then shifted so that its sum is the actual one, which the logistic
        loss alone ensures only among equal logits.
        """
        logits_N = impression_logits(self.network, self._validation).double()
        factor, shift = torch.ones(1, dtype=torch.float64), torch.zeros(1, dtype=torch.float64)
        parameters = [parameter.to(self._device).requires_grad_() for parameter in (factor, shift)]
        optimizer = torch.optim.LBFGS(parameters, max_iter=100, line_search_fn="strong_wolfe")

        def step() -> Tensor:
            optimizer.zero_grad()
            loss = self._objective(parameters[0] * logits_N + parameters[1], self._validation)
            loss.backward()  # type: ignore[no-untyped-call]
            return loss

        optimizer.step(step)  # type: ignore[no-untyped-call]
        # A factor of zero or less would discard what was learned.
        scale, offset = max(parameters[0].item(), SMALLEST_FACTOR), parameters[1].item()
        if self.settings.objective == "watch_time":
            actual_seconds = float(self._validation.watch_seconds.sum(dtype=np.float64))
            offset = math.log(actual_seconds) - (scale * logits_N).logsumexp(0).item()
        rescale(self.network, scale, offset)

    def _objective(self, logits_N: Tensor, impressions: Impressions) -> Tensor:
        clicked_N = torch.from_numpy(impressions.clicked).to(self._device)
        if self.settings.objective == "click":
            return click_loss(logits_N, clicked_N)
        seconds_N = torch.from_numpy(impressions.watch_seconds).to(self._device)
        return watch_time_loss(logits_N, clicked_N, seconds_N, calibrated=self.settings.objective == "watch_time")

    def _loss(self, batch: NDArray[np.int64]) -> Tensor:
        impressions = self._training.take(batch)
        # Contexts only matter to the features, whose columns are known.
        logits_N = self.network.logits(
            *pack_impressions(self.network, impressions, None),
            columns_NC=None if self._columns_NC is None else self._columns_NC[torch.from_numpy(batch)],
            dropout=dropout_of(self.settings.dropout),
        )
        return self._objective(logits_N, impressions)

    def _fit_features(self) -> Tensor | None:
        """Fit the quantiles of the features; return the columns of all training impressions, [N, C]."""
        network, features = self.network, self.network.features
        if features is None:
            return None
        raw_NR = by_block(
            self._training,
            lambda block: features.raw(*pack_impressions(network, block, block.contexts()), network.candidate_network),
        )
        features.quantiles.fit(raw_NR)
        columns_NC: Tensor = features.quantiles(raw_NR)
        return columns_NC


def build_impression_network(
    candidate_network: DeepCandidateGenerationModel, facts: ItemFacts, settings: ImpressionSettings, *, seed: int
) -> DeepRankingModel:
    """Return the network that training begins with; its embeddings are the candidate network's."""
    network = ranking_network_over(
        candidate_network,
        embedding_dim=candidate_network.embedding.embedding_dim,
        hidden_dim=settings.hidden_dim,
        n_hidden_layers=settings.n_hidden_layers,
        seed=seed,
        options=RankingOptions(
            matching=MatchingOptions(network=candidate_network.config, adds_logit=False),
            features=settings.features,
            score="probability" if settings.objective == "click" else "watch_seconds",
        ),
    )
    network.embedding.requires_grad_(requires_grad=settings.embedding_trained)
    if network.features is not None:
        network.features.items.fill(facts)
    return network
