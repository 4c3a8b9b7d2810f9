"""Trains the ranking network on impressions: logistic regression weighted by watch time (paper, section 4.2).

Shape legend: N impressions, I items, R features, C columns of the features.
"""

import math
from collections.abc import Callable, Iterator, Mapping

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from winnow.catalogue.item_facts import ItemFacts
from winnow.evaluation.impression_figures import ordering_figures
from winnow.history import WatchHistories
from winnow.logs.impressions import Impressions, TimeSplit
from winnow.networks.candidate import DeepCandidateGenerationModel
from winnow.networks.options import MatchingOptions, RankingOptions
from winnow.networks.packed import PackedTensor, pack
from winnow.networks.ranking import DeepRankingModel
from winnow.networks.recalibration import rescale
from winnow.training.losses import click_loss, watch_time_loss
from winnow.training.presets import ImpressionSettings
from winnow.training.ranking_network import ranking_network_over

# Impressions whose features and scores are computed at once, outside of training.
IMPRESSIONS_A_BLOCK = 8192
SMALLEST_FACTOR = 0.01


class ImpressionStage:
    """The ranking network in training; see winnow.training.loop.Stage.

    An example is an impression: what its user had watched before, when it was, and whether, and for how long, it was
    watched.
    """

    name = "ranking network"

    def __init__(
        self,
        split: TimeSplit,
        candidate_network: DeepCandidateGenerationModel,
        facts: ItemFacts,
        settings: ImpressionSettings,
        *,
        seed: int,
        device: torch.device,
    ) -> None:
        """`candidate_network` must not have learned from anything as late as the impressions."""
        self.network = build_impression_network(candidate_network, facts, settings, seed=seed).to(device)
        self._training = split.training
        self._validation = split.validation
        self._settings = settings
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
        """One step a batch of impressions, in a new order in every epoch."""
        order = np.random.default_rng([self._seed, epoch]).permutation(len(self._training))
        for batch in np.array_split(order, self.steps_per_epoch):
            yield self._loss(batch), len(batch)

    def validate(self) -> Mapping[str, float]:
        """Return the figures by which the settings' objective is judged; the first chooses the epoch."""
        scores = impression_scores(self.network, self._validation)
        validation = self._validation
        found = ordering_figures(validation.users, scores, validation.clicked, validation.watch_seconds)
        return {
            "watch_time_in_order": 1 - found.weighted_per_user_loss,
            "auc_by_user": found.auc_by_user,
            "expected_over_actual": float(scores.mean() / validation.watch_seconds.mean()),
        }

    def recalibrate(self) -> None:
        """Give the logits the factor and the shift with which they fit the validation impressions best.

        Two numbers, so that what the network has learned by heart, or what has changed since the training impressions,
        does not make it expect too much or too little. The order of the scores stays. An expected watch time is then
        shifted so that all of it sums to the actual one: the logistic loss alone makes it do so among equal logits.
        """
        logits_N = torch.cat(
            _by_block(self._validation, lambda block: self.network.logits(*_requests(self.network, block)))
        ).double()
        factor, shift = torch.ones(1, dtype=torch.float64), torch.zeros(1, dtype=torch.float64)
        parameters = [parameter.to(self._device).requires_grad_() for parameter in (factor, shift)]
        optimizer = torch.optim.LBFGS(parameters, max_iter=100, line_search_fn="strong_wolfe")

        def step() -> Tensor:
            optimizer.zero_grad()
            loss = self._objective(parameters[0] * logits_N + parameters[1], self._validation)
            loss.backward()  # type: ignore[no-untyped-call]
            return loss

        optimizer.step(step)  # type: ignore[no-untyped-call]
        # A factor of zero or less would say that what was learned says nothing.
        scale, offset = max(parameters[0].item(), SMALLEST_FACTOR), parameters[1].item()
        if self._settings.objective == "watch_time":
            actual_seconds = float(self._validation.watch_seconds.sum(dtype=np.float64))
            offset = math.log(actual_seconds) - (scale * logits_N).logsumexp(0).item()
        rescale(self.network, scale, offset)

    def _objective(self, logits_N: Tensor, impressions: Impressions) -> Tensor:
        clicked_N = torch.from_numpy(impressions.clicked).to(self._device)
        if self._settings.objective == "click":
            return click_loss(logits_N, clicked_N)
        seconds_N = torch.from_numpy(impressions.watch_seconds).to(self._device)
        return watch_time_loss(logits_N, clicked_N, seconds_N, calibrated=self._settings.objective == "watch_time")

    def _loss(self, batch: NDArray[np.int64]) -> Tensor:
        impressions = self._training.take(batch)
        logits_N = self.network.logits(
            self.network.pack(_histories(self.network, impressions)),
            _candidates(self.network, impressions),
            columns_NC=None if self._columns_NC is None else self._columns_NC[torch.from_numpy(batch)],
            dropout=self._settings.dropout,
        )
        return self._objective(logits_N, impressions)

    def _fit_features(self) -> Tensor | None:
        """Learn the features' quantiles; return the columns of all training impressions, [N, C]."""
        network, features = self.network, self.network.features
        if features is None:
            return None
        blocks = _by_block(
            self._training, lambda block: features.raw(*_requests(network, block), network.candidate_network)
        )
        raw_NR = torch.cat(blocks)
        features.quantiles.fit(raw_NR)
        columns_NC: Tensor = features.quantiles(raw_NR)
        return columns_NC


def build_impression_network(
    candidate_network: DeepCandidateGenerationModel, facts: ItemFacts, settings: ImpressionSettings, *, seed: int
) -> DeepRankingModel:
    """Return the network that training begins with: with `matching`, its embeddings are the candidate network's."""
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


def impression_scores(network: DeepRankingModel, impressions: Impressions) -> NDArray[np.float32]:
    """Score every impression by itself, float32 [N], as a service would have at that time."""
    blocks = _by_block(impressions, lambda block: network.scores(network.logits(*_requests(network, block))))
    scores: NDArray[np.float32] = torch.cat(blocks).cpu().numpy()
    return scores


@torch.no_grad()
def _by_block(impressions: Impressions, compute: Callable[[Impressions], Tensor]) -> list[Tensor]:
    starts = range(0, len(impressions), IMPRESSIONS_A_BLOCK)
    return [compute(impressions.take(slice(start, start + IMPRESSIONS_A_BLOCK))) for start in starts]


def _requests(network: DeepRankingModel, impressions: Impressions) -> tuple[PackedTensor, PackedTensor]:
    contexts = impressions.contexts()
    return network.pack(_histories(network, impressions), contexts), _candidates(network, impressions)


def _histories(network: DeepRankingModel, impressions: Impressions) -> WatchHistories:
    """As much as the network reads, and a watch more: a watch is also known by how long after another it was."""
    read = network.config.history_length
    return impressions.histories(None if read is None else read + 1)


def _candidates(network: DeepRankingModel, impressions: Impressions) -> PackedTensor:
    return pack(impressions.candidates(), network.n_items, "candidates", network.embedding.weight.device)
