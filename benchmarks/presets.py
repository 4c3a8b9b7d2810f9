"""The catalogues that are measured: their sizes and the load on each."""

from dataclasses import dataclass, replace


@dataclass(frozen=True, kw_only=True)
class Preset:
    """One catalogue and the shape of its networks."""

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
    """Concurrent callers beyond which answers per second no longer grow."""
    naive_callers: int = 64
    """The same for the naive chain."""
    systems: tuple[str, ...] = ("noop_single_hop", "noop_chain", "naive_chain", "winnow", "winnow_native")
    """What is measured; see systems.py."""


# As large as MovieLens-1M with its 3,706 rated films; 64 dimensions and two layers train well on it.
SMALL = Preset(name="small", item_count=3_706, embedding_dim=64, hidden_dim=64, n_hidden_layers=2, taste_count=40)

# As in the paper: a million items (its vocabularies), 256-d embeddings, and its best tower, 1024-512-256.
# The naive chain answers 6 requests per second: 64 callers would wait ten seconds each, and 8 saturate it too.
PAPER = Preset(
    name="paper",
    item_count=1_000_000,
    embedding_dim=256,
    hidden_dim=256,
    n_hidden_layers=3,
    taste_count=2_000,
    naive_callers=8,
    systems=("noop_single_hop", "noop_chain", "naive_chain", "winnow"),
)

PRESETS = (SMALL, PAPER)

# The same names and code paths in seconds: shows that the benchmark runs, but measures nothing.
SMOKE_PRESETS = (
    replace(SMALL, item_count=400, taste_count=20, history_length=10, saturating_callers=8, naive_callers=8),
    replace(PAPER, item_count=2_000, embedding_dim=32, hidden_dim=16, taste_count=40, saturating_callers=8),
)


def item_id(row: int) -> str:
    """Return an id of 11 characters, as long as those of YouTube."""
    return f"item{row:07d}"


def at_size(preset: Preset, item_count: int) -> Preset:
    """Return the preset with another number of items and as many items per taste."""
    return replace(
        preset,
        name=f"{preset.name}-{item_count}",
        item_count=item_count,
        taste_count=max(20, preset.taste_count * item_count // preset.item_count),
    )
