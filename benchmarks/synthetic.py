"""Untrained catalogues with the structure that trained ones have, generated in a minute.

Items belong to tastes, and users watch items of a few tastes. The candidate network's output vector of an item is what
its tower computes from the item's own embedding, so that a history retrieves items like its own, as after training.
With independent random weights all items would be equally far from all users, and no approximate index would work.

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

# Directions in which items differ: about as many as in learned embeddings of hundreds of dimensions.
LATENT_DIM = 32
# Distance of an item from the centre of its taste, relative to the distance between tastes.
WITHIN_TASTE = 0.6
# Noise in an item's embedding, relative to the part that follows from its latent position.
OWN_NOISE = 0.3
# Shares of the tastes in a user's watches: one prevails, as in real histories.
TASTE_SHARES = (0.6, 0.25, 0.15)
# Popularity is proportional to rank to the power of minus this (Zipf; near 1 for films and videos).
POPULARITY_EXPONENT = 0.8
# Items that are computed at once; bounds memory.
BLOCK_ITEMS = 65_536


@dataclass(frozen=True, kw_only=True, eq=False)
class SyntheticCatalogue:
    """Taste and popularity of each item, from which histories are drawn."""

    tastes: NDArray[np.int32]
    """[I]."""
    popularity: NDArray[np.float32]
    """[I], each item's share of all watches."""

    def histories(self, count: int, length: int, seed: int) -> RaggedRows:
        """Draw histories of equal length, without repetition if the tastes have enough items."""
        rng = np.random.default_rng(seed)
        by_taste = np.argsort(self.tastes, kind="stable").astype(np.int32)
        starts = np.searchsorted(self.tastes[by_taste], np.arange(int(self.tastes.max()) + 2))
        weights = np.cumsum(self.popularity[by_taste].astype(np.float64))
        histories = []
        for _ in range(count):
            tastes = rng.integers(0, len(starts) - 1, len(TASTE_SHARES))
            watched: list[int] = []
            # Some draws repeat items: twice as many draws as needed are nearly always enough.
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
    """Make a catalogue and networks of the preset's shape."""
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
    # Centred, since a vector that all items have in common does not change the softmax.
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
    """Make item vectors [I, H] and user vectors [user_count, H], which is all that an index needs.

    An item's embedding exists only while its vector is computed, so that ten million items fit into memory although the
    networks would not. With a `backing_file` the item vectors are mapped from it, and the system can page them out.
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
    # A user vector is made from the average of items of a few tastes, as many as are in a history.
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
    """Return the taste of each item, [I], and its latent position, [I, L]."""
    taste_I = torch.randint(preset.taste_count, (preset.item_count,), generator=generator)
    latent_IL = torch.randn(preset.item_count, LATENT_DIM, generator=generator).mul_(WITHIN_TASTE)
    latent_IL += torch.randn(preset.taste_count, LATENT_DIM, generator=generator)[taste_I]
    return taste_I, latent_IL


def keep_scale(tower: torch.nn.ModuleList) -> None:
    """Scale the layers so that signals keep their size through ReLUs, as they do after training."""
    for layer in tower:
        # torch draws from U(-1, 1) / sqrt(fan_in), which has a third of the variance 1 / fan_in; ReLU takes a half.
        layer.get_parameter("weight").mul_(6**0.5)


def embed(latent_IL: Tensor, table_IE: Tensor, generator: torch.Generator) -> None:
    """Fill the embedding table in place."""
    projection_LE = _projection(table_IE.shape[1], generator)
    for start in range(0, len(table_IE), BLOCK_ITEMS):
        table_IE[start : start + BLOCK_ITEMS] = _embeddings(
            latent_IL[start : start + BLOCK_ITEMS], projection_LE, generator
        )


def _projection(embedding_dim: int, generator: torch.Generator) -> Tensor:
    return torch.randn(LATENT_DIM, embedding_dim, generator=generator).div_(math.sqrt(LATENT_DIM))


def _embeddings(latent_JL: Tensor, projection_LE: Tensor, generator: torch.Generator) -> Tensor:
    """Project the latent positions and add independent noise per item."""
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
