"""The catalogues that are measured: their sizes, and the load put on each."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Preset:
    """One catalogue with networks over it."""

    name: str
    item_count: int
    embedding_dim: int
    hidden_dim: int
    n_hidden_layers: int
    taste_count: int
    """Clusters of the synthetic catalogue."""
    history_length: int = 50
    candidate_count: int = 200
    answer_length: int = 20
    saturating_callers: int = 64
    """Concurrent callers at which the answers a second no longer grow."""
    naive_callers: int = 8
    """The same for the naive chain, which computes one request at a time."""


# MovieLens-1M: 3,706 rated films; 64-d and two layers are what trains well on it.
SMALL = Preset(name="small", item_count=3_706, embedding_dim=64, hidden_dim=64, n_hidden_layers=2, taste_count=40)

# The paper: a catalogue of a million (its vocabularies), 256-d embeddings, and a tower of 1024-512-256 (its best one).
PAPER = Preset(
    name="paper", item_count=1_000_000, embedding_dim=256, hidden_dim=256, n_hidden_layers=3, taste_count=2_000
)

PRESETS = {preset.name: preset for preset in (SMALL, PAPER)}


def at_size(preset: Preset, item_count: int) -> Preset:
    """The same networks over a catalogue of another size."""
    return Preset(
        name=f"{preset.name}-{item_count}",
        item_count=item_count,
        embedding_dim=preset.embedding_dim,
        hidden_dim=preset.hidden_dim,
        n_hidden_layers=preset.n_hidden_layers,
        # As many items a taste as in the preset, within reason.
        taste_count=max(20, preset.taste_count * item_count // preset.item_count),
    )
