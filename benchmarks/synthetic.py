"""Catalogues with structure but without training: what an index and a ranker meet in earnest, made in a minute.

Items belong to tastes, users watch items of a few tastes, and the candidate network's output vector of an item is what
its tower makes of the item's own embedding: so a history retrieves items like those it holds, as after training. With
independent random weights all items would be equally far from all users, and no approximate index would work.

Shape legend: I items, J items of a block, T tastes, L latent dimensions, E embedding_dim, H hidden_dim.
"""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from benchmarks.presets import Preset
from winnow.history import RaggedRows
from winnow.networks.candidate import DeepCandidateGenerationModel
from winnow.networks.ranking import DeepRankingModel
from winnow.networks.tower import apply_tower

# Directions in which items differ; learned embeddings of hundreds of dimensions have about so many.
LATENT_DIM = 32
# How far an item lies from the centre of its taste, relative to the distance between tastes.
WITHIN_TASTE = 0.6
# What an item's embedding has of its own, relative to what follows from its latent position.
OWN_NOISE = 0.3
# A user's watches come from a few tastes, in these shares: one prevails, as in real histories.
TASTE_SHARES = (0.6, 0.25, 0.15)
# Popularity falls with the rank to this power (Zipf; watches of films and videos lie near 1).
POPULARITY_EXPONENT = 0.8
# Items computed at once, to bound memory.
BLOCK_ITEMS = 65_536


@dataclass(frozen=True, kw_only=True, eq=False)
class SyntheticCatalogue:
    """Tastes of items and the popularity of each: what histories are drawn from."""

    tastes: NDArray[np.int32]
    """[I]."""
    popularity: NDArray[np.float32]
    """[I], each item's share of all watches."""

    def histories(self, count: int, length: int, seed: int) -> RaggedRows:
        """Draw histories of equal length, without repetition where the tastes hold enough items."""
        rng = np.random.default_rng(seed)
        by_taste = np.argsort(self.tastes, kind="stable").astype(np.int32)
        starts = np.searchsorted(self.tastes[by_taste], np.arange(int(self.tastes.max()) + 2))
        weights = np.cumsum(self.popularity[by_taste].astype(np.float64))
        histories = []
        for _ in range(count):
            tastes = rng.integers(0, len(starts) - 1, len(TASTE_SHARES))
            watched: list[int] = []
            # Some draws repeat: twice as many as needed are nearly always enough.
            for taste in rng.choice(tastes, 2 * length, p=TASTE_SHARES).tolist():
                low = weights[starts[taste] - 1] if starts[taste] else 0.0
                high = weights[starts[taste + 1] - 1]
                position = int(np.searchsorted(weights, rng.uniform(low, high)))
                watched.append(int(by_taste[min(position, len(by_taste) - 1)]))
            histories.append(np.array(list(dict.fromkeys(watched))[:length], dtype=np.int32))
        return RaggedRows.from_lists(histories)


@dataclass(frozen=True, kw_only=True, eq=False)
class SyntheticNetworks:
    """Both networks over one catalogue."""

    catalogue: SyntheticCatalogue
    candidate: DeepCandidateGenerationModel
    ranking: DeepRankingModel


@torch.inference_mode()
def make_networks(preset: Preset, seed: int = 0) -> SyntheticNetworks:
    """Make catalogue and networks of the preset's shape."""
    generator = torch.Generator().manual_seed(seed)
    candidate = DeepCandidateGenerationModel(**_shape(preset), seed=seed)
    ranking = DeepRankingModel(**_shape(preset), seed=seed + 1)
    taste_I, latent_IL = _latent_positions(preset, generator)
    for network in (candidate, ranking):
        keep_scale(network.tower)
        embed(latent_IL, network.embedding.weight, generator)
    for start in range(0, preset.item_count, BLOCK_ITEMS):
        own = candidate.embedding.weight[start : start + BLOCK_ITEMS]
        candidate.output.weight[start : start + BLOCK_ITEMS] = apply_tower(candidate.tower, own)
    # Centred, as the softmax does not care for what all items have in common.
    candidate.output.weight -= candidate.output.weight.mean(dim=0)
    ranking.output.weight.normal_(0, preset.hidden_dim**-0.5, generator=generator)
    ranks = torch.randperm(preset.item_count, generator=generator) + 1
    popularity = ranks.double().pow(-POPULARITY_EXPONENT)
    catalogue = SyntheticCatalogue(
        tastes=taste_I.int().numpy(), popularity=(popularity / popularity.sum()).float().numpy()
    )
    return SyntheticNetworks(catalogue=catalogue, candidate=candidate.eval(), ranking=ranking.eval())


@torch.inference_mode()
def make_candidates(
    preset: Preset, user_count: int, seed: int = 0, backing_file: Path | None = None
) -> tuple[Tensor, Tensor]:
    """Make what an index alone needs, without tables of embeddings: item vectors [I, H], user vectors [user_count, H].

    An item's embedding exists only while its vector is computed: ten million of them fit where the networks would not.
    With a `backing_file` the item vectors are in it, mapped, so that the system can write them out.
    """
    generator = torch.Generator().manual_seed(seed)
    network = DeepCandidateGenerationModel(**_shape(preset) | {"n_items": 1}, seed=seed)
    keep_scale(network.tower)
    taste_I, latent_IL = _latent_positions(preset, generator)
    projection_LE = _projection(preset.embedding_dim, generator)
    if backing_file is None:
        vectors_IH = torch.empty(preset.item_count, preset.hidden_dim)
    else:
        numbers = preset.item_count * preset.hidden_dim
        vectors_IH = torch.from_file(str(backing_file), shared=True, size=numbers).view(-1, preset.hidden_dim)
    for start in range(0, preset.item_count, BLOCK_ITEMS):
        own_JE = _embeddings(latent_IL[start : start + BLOCK_ITEMS], projection_LE, generator)
        vectors_IH[start : start + BLOCK_ITEMS] = apply_tower(network.tower, own_JE)
    vectors_IH -= vectors_IH.mean(dim=0)
    # A user is the average of items of a few tastes, as in a history of the usual length.
    by_taste = taste_I.argsort()
    starts = torch.searchsorted(taste_I[by_taste], torch.arange(preset.taste_count + 1))
    users = []
    for _ in range(user_count):
        tastes = torch.randint(preset.taste_count, (len(TASTE_SHARES),), generator=generator)
        share = torch.tensor(TASTE_SHARES)
        drawn = tastes[torch.multinomial(share, preset.history_length, replacement=True, generator=generator)]
        within = torch.rand(preset.history_length, generator=generator) * (starts[drawn + 1] - starts[drawn])
        watched = by_taste[(starts[drawn] + within.long()).clamp(max=preset.item_count - 1)]
        users.append(_embeddings(latent_IL[watched], projection_LE, generator).mean(dim=0))
    return vectors_IH, apply_tower(network.tower, torch.stack(users))


def _latent_positions(preset: Preset, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """The taste of each item, [I], and where it lies, [I, L]."""
    taste_I = torch.randint(preset.taste_count, (preset.item_count,), generator=generator)
    latent_IL = torch.randn(preset.item_count, LATENT_DIM, generator=generator).mul_(WITHIN_TASTE)
    latent_IL += torch.randn(preset.taste_count, LATENT_DIM, generator=generator)[taste_I]
    return taste_I, latent_IL


def keep_scale(tower: torch.nn.ModuleList) -> None:
    """Scale the layers so that signals keep their size through ReLUs, as training makes them do."""
    for layer in tower:
        # torch draws from U(-1, 1) / sqrt(fan_in), which has a third of the variance 1 / fan_in; ReLU takes a half.
        layer.get_parameter("weight").mul_(6**0.5)


def embed(latent_IL: Tensor, table_IE: Tensor, generator: torch.Generator) -> None:
    """Fill the table of embeddings."""
    projection_LE = _projection(table_IE.shape[1], generator)
    for start in range(0, len(table_IE), BLOCK_ITEMS):
        table_IE[start : start + BLOCK_ITEMS] = _embeddings(
            latent_IL[start : start + BLOCK_ITEMS], projection_LE, generator
        )


def _projection(embedding_dim: int, generator: torch.Generator) -> Tensor:
    return torch.randn(LATENT_DIM, embedding_dim, generator=generator).div_(math.sqrt(LATENT_DIM))


def _embeddings(latent_JL: Tensor, projection_LE: Tensor, generator: torch.Generator) -> Tensor:
    """A random projection of the latent positions, and noise of each item's own."""
    noise_JE = torch.randn(len(latent_JL), projection_LE.shape[1], generator=generator)
    own_JE: Tensor = latent_JL @ projection_LE
    return own_JE.add_(noise_JE, alpha=OWN_NOISE)


def _shape(preset: Preset) -> dict[str, Any]:
    return {
        "n_items": preset.item_count,
        "embedding_dim": preset.embedding_dim,
        "hidden_dim": preset.hidden_dim,
        "n_hidden_layers": preset.n_hidden_layers,
    }
