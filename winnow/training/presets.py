"""Every setting of a training run, and the presets, in one place."""

from dataclasses import MISSING, asdict, dataclass, fields, replace
from typing import Any, Literal


@dataclass(frozen=True, kw_only=True)
class CandidateSettings:
    """How the candidate network looks and is trained."""

    # The shape: see DeepCandidateGenerationModel.
    embedding_dim: int
    hidden_dim: int
    n_hidden_layers: int
    history_length: int
    bag_decays: tuple[float, ...] | None
    bag_lags: tuple[int, ...]
    signed_bags: int
    # What the network sees of a watch besides its item, see WatchFeatures: the time since the watch before it, cut at
    # these edges, and its weight, cut into so many ranges of equal frequency in the log. No edges: the item alone.
    gap_edges_seconds: tuple[float, ...]
    weight_range_count: int
    # The share of chunks from which each of the two is withheld in training: callers need not have them.
    feature_dropout: float
    linear_skip: bool
    embedding_std: float
    # Adam's largest step size, after a linear warm-up and before a cosine decay.
    learning_rate: float
    # The weights of positions are few and move far: their step size is this many times larger.
    position_learning_rate_factor: float
    # Share of the watches that this network does not learn to predict. Ranking learns from those: among candidates of a
    # network that knows the answer already, it would learn to trust their order more than it may in serving.
    held_back_share: float
    # Share of each layer's inputs that is zeroed in training.
    dropout: float
    epochs: int
    # Targets a chunk, and chunks a step: their product bounds the examples of a step.
    chunk_length: int
    chunks_per_batch: int
    # "auto" is the full softmax up to FULL_SOFTMAX_ITEM_LIMIT items.
    softmax: Literal["auto", "full", "sampled"]
    # Of the sampled softmax: negatives that all examples of a step share.
    negative_count: int
    # Of the full softmax: items that a user has watched leave it, as they leave the candidates when serving.
    exclude_watched: bool
    # From here on, options that no preset needs to state. Columns of the items file whose values, separated by commas,
    # have vectors of their own in every watch, so wide; see ItemSides.
    side_columns: tuple[str, ...] = ()
    side_dim: int = 16
    # Tell the network in training how old an example is; zero in serving (paper, section 3.3).
    example_age: bool = False
    # Watches of a user that serve as examples in one epoch, new ones in each (paper, section 3.4); 0 is all of them.
    examples_per_user: int = 0
    # One table for the embeddings and the output: needs hidden_dim to be embedding_dim.
    tied_tables: bool = False
    # Of the sampled softmax: half drawn by frequency and half uniformly, or the step's own targets and negative_count
    # uniform ones.
    negatives: Literal["drawn", "mixed"] = "drawn"
    # Of the sampled softmax: correct the logits by how often an item is expected in the sample.
    log_q: bool = True


@dataclass(frozen=True, kw_only=True)
class RankingSettings:
    """How the ranking network looks and is trained."""

    # The tower: see DeepRankingModel. Without `matching` its embeddings begin as random ones, with it they and the
    # history bags begin as the candidate network's, and have its embedding_dim.
    embedding_dim: int
    hidden_dim: int
    n_hidden_layers: int
    # Add the candidate network's logit to the tower's.
    matching: bool
    # With matching: look up how often a candidate followed each of so many latest watches, among so many successors of
    # each item; see Successions. 0 does not.
    latest_count: int
    successors_per_item: int
    learning_rate: float
    epochs: int
    # A user's watches that serve as examples in one epoch, new ones in each (paper, section 3.4: no user counts more).
    examples_per_user: int
    # Candidates of the candidate stage that an example's target is ranked among, and how many of those are drawn as
    # negatives in a step; they stand for the rest of the list by their weight.
    candidate_count: int
    negative_count: int
    # What the target's term in the loss is multiplied by.
    positive_weight: float
    # Multiply it by the watch's weight in the log, such as the seconds watched.
    weighted: bool
    examples_per_batch: int


Objective = Literal["click", "watch_time", "watch_time_paper"]


@dataclass(frozen=True, kw_only=True)
class ImpressionSettings:
    """How the ranking network looks and is trained where there is a log of impressions."""

    # The tower: see DeepRankingModel. Its embeddings and history bags begin as the candidate network's.
    hidden_dim: int
    n_hidden_layers: int
    # Train the embeddings further; where not, they stay the candidate network's.
    embedding_trained: bool
    # Continuous features of a candidate, see RankingFeatures; none is the plain network.
    features: tuple[str, ...]
    # What e to the logit becomes: the odds of a click; the mean watch time of an impression, in seconds, exactly or, in
    # the paper's form, where clicks are rare. See winnow.training.losses.
    objective: Objective
    # AdamW's largest step size, after a linear warm-up and before a cosine decay.
    learning_rate: float
    # What a weight loses a step, times the step size: against learning single impressions by heart.
    weight_decay: float
    embedding_decay: float
    # Share of each layer's inputs that is zeroed in training.
    dropout: float
    epochs: int
    impressions_per_batch: int
    # The last impressions are the test, those before them the validation.
    validation_share: float
    test_share: float


@dataclass(frozen=True, kw_only=True)
class TrainingSettings:
    """A whole run: the catalogue, both networks, the seed."""

    # The vocabulary: the most frequent items, of those that are watched this often.
    vocabulary_size: int
    min_item_count: int
    candidate: CandidateSettings
    ranking: RankingSettings
    # "bfloat16" multiplies matrices in half precision, "auto" does so where the device has instructions for it.
    precision: Literal["auto", "float32", "bfloat16"]
    seed: int
    # What is held out: the last watches of each user, or all watches from a moment on ("global-time"). See split.py.
    split: str = "leave-last-out"
    # Instead of `ranking`, where there is a log of impressions.
    impressions: ImpressionSettings | None = None


def stated(settings: Any) -> dict[str, Any]:
    """Return settings, a dataclass of this file, as JSON values, without the options that are off.

    They name a training run; an option that is added to this file later does not make a run of before another one.
    """
    off = {field.name: field.default for field in fields(settings) if field.default is not MISSING}
    return {name: value for name, value in asdict(settings).items() if name not in off or off[name] != value}


# From one click after another to another season.
GAP_EDGES_SECONDS = (1.0, 10.0, 30.0, 60.0, 300.0, 3600.0, 86_400.0, 864_000.0)

DEMO = TrainingSettings(
    vocabulary_size=1_000_000,
    min_item_count=5,
    candidate=CandidateSettings(
        embedding_dim=64,
        hidden_dim=64,
        n_hidden_layers=2,
        history_length=50,
        # The whole history, the last evening, the last few watches.
        bag_decays=(0.0, 0.05, 0.5),
        bag_lags=(),
        signed_bags=0,
        gap_edges_seconds=GAP_EDGES_SECONDS,
        weight_range_count=10,
        feature_dropout=0.05,
        linear_skip=True,
        embedding_std=0.05,
        learning_rate=4e-3,
        position_learning_rate_factor=5.0,
        held_back_share=0.05,
        dropout=0.2,
        epochs=5,
        chunk_length=64,
        chunks_per_batch=32,
        softmax="auto",
        negative_count=4096,
        exclude_watched=True,
    ),
    ranking=RankingSettings(
        embedding_dim=64,
        hidden_dim=32,
        n_hidden_layers=2,
        matching=True,
        latest_count=5,
        successors_per_item=256,
        learning_rate=2e-3,
        epochs=2,
        examples_per_user=10,
        candidate_count=200,
        negative_count=64,
        positive_weight=1.0,
        weighted=False,
        examples_per_batch=256,
    ),
    precision="auto",
    seed=1,
)

RECORD = TrainingSettings(
    vocabulary_size=1_000_000,
    min_item_count=5,
    candidate=CandidateSettings(
        embedding_dim=128,
        hidden_dim=128,
        n_hidden_layers=2,
        history_length=128,
        bag_decays=(0.4, 0.1, 0.02, 0.0, 0.02),
        # The latest watch, and the one before it.
        bag_lags=(0, 1),
        # What was liked less what was not.
        signed_bags=1,
        gap_edges_seconds=GAP_EDGES_SECONDS,
        weight_range_count=10,
        feature_dropout=0.05,
        linear_skip=True,
        embedding_std=0.05,
        learning_rate=2e-3,
        position_learning_rate_factor=5.0,
        held_back_share=0.05,
        dropout=0.3,
        epochs=8,
        chunk_length=64,
        chunks_per_batch=32,
        softmax="auto",
        negative_count=4096,
        exclude_watched=True,
    ),
    ranking=RankingSettings(
        embedding_dim=128,
        hidden_dim=64,
        n_hidden_layers=2,
        matching=True,
        latest_count=5,
        successors_per_item=256,
        learning_rate=2e-3,
        epochs=2,
        examples_per_user=40,
        candidate_count=200,
        negative_count=48,
        positive_weight=1.0,
        weighted=False,
        examples_per_batch=256,
    ),
    precision="auto",
    seed=1,
)

# The same for callers who know the order of watches alone, not their times or weights, as SASRec does.
ORDER = replace(
    RECORD, candidate=replace(RECORD.candidate, gap_edges_seconds=(), signed_bags=0, bag_decays=(0.4, 0.1, 0.02, 0.0))
)

# A few impressions a user, some thousand items, tens of watches before them.
KUAIRAND = TrainingSettings(
    vocabulary_size=1_000_000,
    min_item_count=1,
    candidate=replace(
        DEMO.candidate,
        embedding_dim=32,
        hidden_dim=32,
        n_hidden_layers=1,
        bag_decays=(0.0, 0.1, 0.5),
        # Of watches before the impressions only the order is known.
        gap_edges_seconds=(),
        # Watched items are shown again.
        exclude_watched=False,
        held_back_share=0.0,
        epochs=4,
    ),
    ranking=DEMO.ranking,
    impressions=ImpressionSettings(
        hidden_dim=512,
        n_hidden_layers=2,
        embedding_trained=True,
        features=("category_watches", "popularity", "duration_seconds", "similarity", "candidate_score"),
        objective="watch_time",
        learning_rate=1e-3,
        weight_decay=0.01,
        embedding_decay=0.01,
        dropout=0.3,
        epochs=4,
        impressions_per_batch=1024,
        validation_share=0.15,
        test_share=0.2,
    ),
    precision="auto",
    seed=1,
)

PRESETS = {"demo": DEMO, "record": RECORD, "order": ORDER, "kuairand": KUAIRAND}
