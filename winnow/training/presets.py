"""Every setting of a training run, and the presets."""

from dataclasses import dataclass, replace
from typing import Any, Literal

from pydantic import TypeAdapter

from winnow.networks.options import CandidateOptions, HistoryOptions
from winnow.networks.watch_features import WatchFeatures


@dataclass(frozen=True, kw_only=True)
class CandidateSettings:
    """How the candidate network is built and trained."""

    embedding_dim: int
    hidden_dim: int
    n_hidden_layers: int
    # What the network has beyond the paper's. Training completes it from the data: the weight_edges of the watch
    # features, and the attributes.
    options: CandidateOptions
    # Ranges of equal frequency in the log that the weights of watches are cut into, where there are watch features.
    weight_range_count: int
    # Share of chunks from which each watch feature is withheld in training: callers need not send them.
    feature_dropout: float
    # Adam's largest step size, after a linear warm-up and before a cosine decay.
    learning_rate: float
    # The weights of positions are few and move far: their step size is this many times larger.
    position_learning_rate_factor: float
    # Share of the watches that this network does not learn to predict. Ranking learns from those: from candidates of a
    # network that knows the answer, it would learn to trust their order more than it may in serving.
    held_back_share: float
    # Share of each layer's inputs that is zeroed in training.
    dropout: float
    epochs: int
    # Targets per chunk, and chunks per step: their product bounds the examples of a step.
    chunk_length: int
    chunks_per_batch: int
    # "auto" is the full softmax up to FULL_SOFTMAX_ITEM_LIMIT items.
    softmax: Literal["auto", "full", "sampled"]
    # Sampled softmax: negatives that all examples of a step share.
    negative_count: int
    # Full softmax: leave out the items that a user has watched, as they are left out of the candidates in serving.
    exclude_watched: bool
    # No preset states the settings from here on. Columns of the items file that become the attributes of the network:
    # see AttributeEmbeddings. Commas separate several values of one item.
    attribute_columns: tuple[str, ...] = ()
    # Attributes of the release from which the vectors of items that come after the training are made: see ItemParts.
    # The own part of each item's vectors is left out of this share of the steps.
    new_items_by: tuple[str, ...] = ()
    id_dropout: float = 0.1
    # Watches of a user that are examples in one epoch, new ones in each (paper, section 3.4); 0 is all of them.
    examples_per_user: int = 0
    # Sampled softmax: half drawn by frequency and half uniformly, or the step's own targets and negative_count uniform
    # ones.
    negatives: Literal["drawn", "mixed"] = "drawn"
    # Sampled softmax: correct the logits by how often an item is expected in the sample.
    log_q: bool = True
    # Every epoch also learns from this many copies of each history in random order, new ones in each: for logs that do
    # not say in which order a user watched.
    shuffled_copies: int = 0
    # Stop after this many epochs in which validation did not improve; 0 never does. The best epoch is kept in any case.
    patience: int = 0

    @property
    def history_length(self) -> int:
        """How many of the latest watches the network reads. Raises ValueError where the options do not limit them."""
        length = self.options.history.history_length
        if length is None:
            raise ValueError("history_length is None: a network is trained on histories of limited length")
        return length


@dataclass(frozen=True, kw_only=True)
class RankingSettings:
    """How the ranking network is built and trained."""

    # The tower. Without `matching` the embeddings are initially random; with it, they and the history bags are copies
    # of the candidate network's, and embedding_dim has to be the same.
    embedding_dim: int
    hidden_dim: int
    n_hidden_layers: int
    # Add the candidate network's logit to the tower's: see Matching.
    matching: bool
    # With matching: look up how often a candidate follows each of this many latest watches, among this many successors
    # of each item: see Successions. 0 does not.
    latest_count: int
    successors_per_item: int
    learning_rate: float
    epochs: int
    # Watches of a user that are examples in one epoch, new ones in each (paper, section 3.4: all users weigh the same).
    examples_per_user: int
    # Candidates that the target of an example is ranked among, and how many of them are drawn as negatives in a step;
    # their weights stand for the rest of the list.
    candidate_count: int
    negative_count: int
    # Factor of the target's term in the loss.
    positive_weight: float
    # Multiply it by the watch's weight in the log, such as the seconds watched.
    weighted: bool
    examples_per_batch: int
    # No preset states the settings from here on. Add what nearest-neighbour recommenders say to the candidate network
    # and, with matching, to this one, as much as validation says: see Neighbours.
    neighbours: bool = True
    # As of the candidate network.
    patience: int = 0
    # Names of continuous features that the tower reads: see winnow.networks.features. Not those that read the time of a
    # request or its unclicked items, which a log of watches does not have.
    features: tuple[str, ...] = ()


Objective = Literal["click", "watch_time", "watch_time_paper"]


@dataclass(frozen=True, kw_only=True)
class ImpressionSettings:
    """How the ranking network is built and trained where there is a log of impressions."""

    # The tower. The embeddings and history bags are initially copies of the candidate network's.
    hidden_dim: int
    n_hidden_layers: int
    # Train the embeddings further.
    embedding_trained: bool
    # Names of continuous features: see winnow.networks.features.
    features: tuple[str, ...]
    # What the exponential of the logit becomes: the odds of a click; the mean watch time of an impression, in seconds,
    # exactly or, in the paper's form, where clicks are rare. See winnow.training.losses.
    objective: Objective
    # AdamW's largest step size, after a linear warm-up and before a cosine decay.
    learning_rate: float
    # Weight decay per step, times the step size: against overfitting to single impressions.
    weight_decay: float
    embedding_decay: float
    # Share of each layer's inputs that is zeroed in training.
    dropout: float
    epochs: int
    impressions_per_batch: int
    # The last impressions are the test, those before them the validation.
    validation_share: float
    test_share: float
    # As of the candidate network. No preset states it.
    patience: int = 0


@dataclass(frozen=True, kw_only=True)
class TrainingSettings:
    """A whole run: the catalogue, both networks, the seed."""

    # The vocabulary: the most frequent items, of those that are watched at least min_item_count times.
    vocabulary_size: int
    min_item_count: int
    candidate: CandidateSettings
    ranking: RankingSettings
    # "bfloat16" multiplies matrices in half precision; "auto" does so where the device has instructions for it.
    precision: Literal["auto", "float32", "bfloat16"]
    seed: int
    # What is held out: the last watches of each user, or all watches from one time on ("global-time"). See split.py.
    split: str = "leave-last-out"
    # Replaces `ranking` where there is a log of impressions.
    impressions: ImpressionSettings | None = None


def stated(settings: Any) -> dict[str, Any]:
    """Return settings, a dataclass of this file, as JSON values, without those that have their default.

    They name a training run: a setting or an option that is added later does not change the name of an earlier run.
    """
    found: dict[str, Any] = TypeAdapter(type(settings)).dump_python(settings, mode="json", exclude_defaults=True)
    return found


# From one click after another to another season.
GAP_EDGES_SECONDS = (1.0, 10.0, 30.0, 60.0, 300.0, 3600.0, 86_400.0, 864_000.0)

DEMO = TrainingSettings(
    vocabulary_size=1_000_000,
    min_item_count=5,
    candidate=CandidateSettings(
        embedding_dim=64,
        hidden_dim=64,
        n_hidden_layers=2,
        options=CandidateOptions(
            history=HistoryOptions(
                history_length=50,
                # The whole history, the last evening, the last few watches.
                bag_decays=(0.0, 0.05, 0.5),
                watch_features=WatchFeatures(gap_edges_seconds=GAP_EDGES_SECONDS),
            ),
            linear_skip=True,
            embedding_std=0.05,
        ),
        weight_range_count=10,
        feature_dropout=0.05,
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
        options=CandidateOptions(
            history=HistoryOptions(
                history_length=128,
                bag_decays=(0.4, 0.1, 0.02, 0.0, 0.02),
                # The latest watch, and the one before it.
                bag_lags=(0, 1),
                # Liked watches minus disliked ones.
                signed_bags=1,
                watch_features=WatchFeatures(gap_edges_seconds=GAP_EDGES_SECONDS),
            ),
            linear_skip=True,
            embedding_std=0.05,
        ),
        weight_range_count=10,
        feature_dropout=0.05,
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

# The same for callers who only know the order of watches, not their times or weights, as with SASRec.
ORDER = replace(
    RECORD,
    candidate=replace(
        RECORD.candidate,
        options=replace(
            RECORD.candidate.options,
            history=HistoryOptions(history_length=128, bag_decays=(0.4, 0.1, 0.02, 0.0), bag_lags=(0, 1)),
        ),
    ),
)

# A few impressions per user, some thousand items, tens of watches before them.
KUAIRAND = TrainingSettings(
    vocabulary_size=1_000_000,
    min_item_count=1,
    candidate=replace(
        DEMO.candidate,
        embedding_dim=32,
        hidden_dim=32,
        n_hidden_layers=1,
        options=replace(
            DEMO.candidate.options,
            # Only the order of the watches before the impressions is known: no watch features.
            history=HistoryOptions(history_length=50, bag_decays=(0.0, 0.1, 0.5)),
        ),
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
