"""Trains the ranking network: weighted logistic regression over what the candidate stage returns (paper, section 4.2).

Shape legend: N examples, K candidates an example, S sampled negatives an example.
"""

from collections.abc import Iterator, Mapping

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from winnow.history import RaggedRows
from winnow.networks.candidate import DeepCandidateGenerationModel
from winnow.networks.packed import PackedTensor
from winnow.networks.ranking import DeepRankingModel
from winnow.training.evaluation import chain_ranks, figures, top_candidates
from winnow.training.presets import RankingSettings
from winnow.training.split import LeaveLastOut, visible_before


class RankingStage:
    """The ranking network in training; see winnow.training.loop.Stage.

    An example is a watch: its history goes through the trained candidate network, and among the candidates that come
    back, exactly as in serving, the one that was watched next is the positive. Where it is not among them, all are
    negatives.
    """

    name = "ranking network"

    def __init__(
        self,
        split: LeaveLastOut,
        candidate_network: DeepCandidateGenerationModel,
        settings: RankingSettings,
        *,
        seed: int,
        device: torch.device,
    ) -> None:
        self.network = build_ranking_network(candidate_network, settings, seed=seed).to(device)
        self._candidate_network = candidate_network
        self._settings = settings
        self._training = split.training
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
        counts = np.minimum(self._training.lengths - 1, settings.examples_per_user).clip(min=0)
        self.steps_per_epoch = -(-int(counts.sum()) // settings.examples_per_batch)

    def losses(self, epoch: int) -> Iterator[tuple[Tensor, int]]:
        """One step a batch of examples, a new sample of each user's watches in every epoch."""
        rng = np.random.default_rng([self._seed, epoch])
        users, positions = sample_examples(self._training, self._settings.examples_per_user, rng)
        order = rng.permutation(len(users))
        for batch in np.array_split(order, self.steps_per_epoch):
            yield self._loss(users[batch], positions[batch]), len(batch)

    def validate(self) -> Mapping[str, float]:
        """Return the whole chain's figures: ranking is there to put the target at the top, hence NDCG@10 first."""
        ranks = chain_ranks(
            self._candidate_network,
            self.network,
            self._validation,
            candidate_count=self._settings.candidate_count,
        )
        found = figures(ranks)
        return {name: found[name] for name in ("ndcg_at_10", "hr_at_10", "mrr")}

    def _loss(self, users: NDArray[np.int64], positions: NDArray[np.int64]) -> Tensor:
        settings = self._settings
        watched = visible_before(self._training, users, positions)
        at_targets = self._training.offsets[users] + positions
        targets_N = torch.from_numpy(self._training.rows[at_targets]).to(self._device)
        weights_N = torch.full((len(users),), settings.positive_weight, device=self._device)
        if settings.weighted:
            weights_N *= torch.from_numpy(self._training.weights[at_targets]).to(self._device)
        candidates_NK = top_candidates(self._candidate_network, watched, candidate_count=settings.candidate_count)
        # The target, where it was returned, and a sample of the others. Sampled targets are taken out by their weight.
        returned_N = (candidates_NK == targets_N.unsqueeze(1)).any(dim=1)
        drawn_NS = torch.randint(candidates_NK.shape[1], (len(users), settings.negative_count), device=self._device)
        negatives_NS = candidates_NK.gather(1, drawn_NS)
        negative_weights_NS = (negatives_NS != targets_N.unsqueeze(1)).float()
        negative_weights_NS *= candidates_NK.shape[1] / settings.negative_count
        scored = torch.cat([targets_N.unsqueeze(1), negatives_NS], dim=1)
        logits = self._logits(watched, scored)
        terms = F.binary_cross_entropy_with_logits(logits, _first_column_is_positive(logits), reduction="none")
        weights = torch.cat([(weights_N * returned_N).unsqueeze(1), negative_weights_NS], dim=1)
        return (terms * weights).sum() / weights.sum()

    def _logits(self, watched: RaggedRows, scored: Tensor) -> Tensor:
        offsets = torch.arange(0, scored.numel() + 1, scored.shape[1], device=self._device)
        logits_N = self.network.logits(
            self.network.pack(watched),
            PackedTensor(scored.flatten(), offsets),
            self.network.item_halves(),
        )
        return logits_N.view_as(scored)


def build_ranking_network(
    candidate_network: DeepCandidateGenerationModel, settings: RankingSettings, *, seed: int
) -> DeepRankingModel:
    """Return the network that training begins with: as the candidate network sees items, or drawn at random.

    Raises ValueError where `matching` is asked for and the embedding_dim is not the candidate network's.
    """
    shape = candidate_network.constructor_arguments()
    network = DeepRankingModel(
        candidate_network.n_items,
        settings.embedding_dim,
        settings.hidden_dim,
        settings.n_hidden_layers,
        seed,
        history_length=shape["history_length"],
        bag_decays=shape["bag_decays"],
        bag_lags=shape["bag_lags"],
        signed_bags=shape["signed_bags"],
        watch_features=shape["watch_features"],
        embedding_std=shape["embedding_std"],
        matching=shape if settings.matching else None,
    )
    if network.matching is None:
        return network
    if settings.embedding_dim != shape["embedding_dim"]:
        raise ValueError(
            f"the ranking network's embedding_dim is {settings.embedding_dim}: "
            f"with matching it has to be the candidate network's {shape['embedding_dim']}"
        )
    network.matching.load_state_dict(candidate_network.state_dict())
    network.embedding.load_state_dict(candidate_network.embedding.state_dict())
    if network.bags is not None and candidate_network.bags is not None:
        network.bags.load_state_dict(candidate_network.bags.state_dict())
    # The first correction is none: training begins with the order of the candidates.
    torch.nn.init.zeros_(network.output.weight)
    return network


def sample_examples(
    histories: RaggedRows, examples_per_user: int, rng: np.random.Generator
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Draw up to `examples_per_user` watches of each user that have a history: users and positions, int64 [N]."""
    lengths = histories.lengths
    users = np.repeat(np.arange(len(histories)), lengths)
    positions = np.arange(len(users)) - np.repeat(histories.offsets[:-1], lengths)
    users, positions = users[positions > 0], positions[positions > 0]
    # Sorting random keys within each user shuffles; the first of each user are then a sample without replacement.
    shuffled = np.lexsort((rng.random(len(users)), users))
    users, positions = users[shuffled], positions[shuffled]
    firsts = np.searchsorted(users, users)
    chosen = np.arange(len(users)) - firsts < examples_per_user
    return users[chosen], positions[chosen]


def _first_column_is_positive(logits: Tensor) -> Tensor:
    labels = torch.zeros_like(logits)
    labels[:, 0] = 1
    return labels
