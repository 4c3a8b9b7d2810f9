"""What a network is made of: frozen, typed and checked here, without torch.

The default of every option is the notebook's network. A network keeps the config it was built from, the manifest of a
release holds it as JSON, and the presets embed the options.
"""

import math
from dataclasses import dataclass
from typing import Literal, get_args

from winnow.networks.watch_features import WatchFeatures

Score = Literal["probability", "watch_seconds"]
Arithmetic = Literal["float32", "bfloat16"]
"""Of the matrix products of a network that is served."""


def _check_integers(*, smallest: int = 1, **numbers: int) -> None:
    """Raise ValueError, naming the argument, unless every number is an integer of at least `smallest`."""
    for name, value in numbers.items():
        if isinstance(value, bool) or not isinstance(value, int):
            raise ValueError(f"{name} is {value!r}: it has to be an integer")
        if value < smallest:
            raise ValueError(f"{name} is {value}: it has to be at least {smallest}")


@dataclass(frozen=True, kw_only=True)
class HistoryOptions:
    """How a network summarises a watch history: see HistoryBags. The default is the plain average of all watches."""

    history_length: int | None = None
    """How many of the latest watches the network reads; None is all of them. All other options need it."""
    bag_decays: tuple[float, ...] | None = None
    """One bag for each, in which a watch initially weighs exp(-decay * lag); None is one plain average."""
    bag_lags: tuple[int, ...] = ()
    """One more bag for each, which initially holds little but the watch at this lag; 0 is the latest watch."""
    signed_bags: int = 0
    """How many of the bags, the last ones, are initially liked watches minus disliked ones: needs `watch_features`."""
    watch_features: WatchFeatures | None = None
    """What the network sees of a watch besides its item."""

    def __post_init__(self) -> None:
        if self.history_length is None:
            for name in ("bag_decays", "bag_lags", "watch_features"):
                if getattr(self, name):
                    raise ValueError(f"history_length is None: {name} needs a history of limited length")
        else:
            _check_integers(history_length=self.history_length)
            if any(not 0 <= lag < self.history_length for lag in self.bag_lags):
                raise ValueError(f"bag_lags are {list(self.bag_lags)}: they lie in [0, {self.history_length})")
        if self.bag_decays is not None and not self.bag_decays:
            raise ValueError("bag_decays is empty: it has to hold one number per bag")
        if not 0 <= self.signed_bags <= (0 if self.watch_features is None else self.bag_count):
            raise ValueError(
                f"signed_bags is {self.signed_bags}: it counts some of {self.bag_count} bags with watch_features"
            )

    @property
    def bag_count(self) -> int:
        """How many averages there are of a history."""
        return len(self.bag_lags) + (1 if self.bag_decays is None else len(self.bag_decays))


@dataclass(frozen=True, kw_only=True)
class AttributeShape:
    """The size of one attribute of the items, such as their genres."""

    value_count: int
    """How many values there are."""
    values_per_item: int
    """How many of them one item has at most."""

    def __post_init__(self) -> None:
        _check_integers(value_count=self.value_count, values_per_item=self.values_per_item)


@dataclass(frozen=True, kw_only=True)
class NeighbourOptions:
    """The size of a table of items that stand beside each other in the log: see Neighbours."""

    neighbour_count: int
    """How many neighbours of each item the table holds."""
    latest_count: int
    """How many of the latest watches are looked up."""
    recency_decay: float
    """What a watch counts, as a share of what the next later one counts; 1 if all count the same."""
    scale: float = 0.01
    """A sum that is much smaller counts in proportion, of a much larger one its logarithm."""

    def __post_init__(self) -> None:
        _check_integers(neighbour_count=self.neighbour_count, latest_count=self.latest_count)
        if not 0 < self.scale < math.inf:
            raise ValueError(f"scale is {self.scale}: it has to be above zero and finite")
        if not 0 < self.recency_decay <= 1:
            raise ValueError(f"recency_decay is {self.recency_decay}: it lies in (0, 1]")


@dataclass(frozen=True, kw_only=True)
class CandidateOptions:
    """What the candidate network has beyond the paper's."""

    history: HistoryOptions = HistoryOptions()
    linear_skip: bool = False
    """Add a linear map of the summarised history to the user vector. With it there may be no hidden layers at all."""
    embedding_std: float = 1.0
    """Standard deviation of the initial embeddings; a few hundredths train faster than torch's default of 1."""
    tied_tables: bool = False
    """One table for the embeddings and the output: needs hidden_dim to be embedding_dim."""
    attributes: tuple[AttributeShape, ...] = ()
    """Item attributes that every watch is embedded with: see AttributeEmbeddings. They need history_length."""
    attribute_dim: int = 16
    """Width of the embedding of each attribute."""
    parts: tuple[AttributeShape, ...] = ()
    """Item attributes from which the vectors of items that come after the training are made: see ItemParts."""
    example_age: bool = False
    """Tell the network in training how old an example is: see ExampleAge."""
    neighbours: tuple[NeighbourOptions, ...] = ()
    """Add the sums of nearest-neighbour recommenders to the logits, one for each table: see Neighbours."""

    def __post_init__(self) -> None:
        _check_integers(attribute_dim=self.attribute_dim)
        if self.attributes and self.history.history_length is None:
            raise ValueError("history_length is None: attributes need a history of limited length")


@dataclass(frozen=True)
class NetworkConfig:
    """The notebook's arguments, which both networks share."""

    n_items: int
    embedding_dim: int
    hidden_dim: int
    n_hidden_layers: int
    seed: int

    def __post_init__(self) -> None:
        _check_integers(n_items=self.n_items, embedding_dim=self.embedding_dim, hidden_dim=self.hidden_dim)
        _check_integers(smallest=0, n_hidden_layers=self.n_hidden_layers)


@dataclass(frozen=True)
class CandidateConfig(NetworkConfig):
    """Everything that DeepCandidateGenerationModel is built from."""

    options: CandidateOptions = CandidateOptions()

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.options.linear_skip:
            _check_integers(n_hidden_layers=self.n_hidden_layers)
        if self.options.tied_tables and self.hidden_dim != self.embedding_dim:
            raise ValueError(
                f"hidden_dim is {self.hidden_dim}: with tied_tables it has to be embedding_dim, {self.embedding_dim}"
            )

    @property
    def history_length(self) -> int | None:
        """How many of the latest watches the network reads; None is all of them."""
        return self.options.history.history_length

    @property
    def summary_dim(self) -> int:
        """Width of a summarised history."""
        attributes_dim = self.options.attribute_dim * len(self.options.attributes)
        return (self.embedding_dim + attributes_dim) * self.options.history.bag_count


@dataclass(frozen=True, kw_only=True)
class SuccessionOptions:
    """The size of a table of what follows what: see Successions."""

    pair_count: int
    """How many pairs of items the table holds."""
    latest_count: int
    """How many of the latest watches a candidate is looked up after."""

    def __post_init__(self) -> None:
        _check_integers(pair_count=self.pair_count, latest_count=self.latest_count)


@dataclass(frozen=True, kw_only=True)
class MatchingOptions:
    """The trained candidate network inside the ranking network: see Matching."""

    network: CandidateConfig
    adds_logit: bool = True
    """Add its logit of the candidate to the tower's. Where not, it is there for the features that read it."""
    successions: SuccessionOptions | None = None
    """Correct that logit by what is known to follow the latest watches."""
    neighbours: tuple[NeighbourOptions, ...] = ()
    """Add the sums of nearest-neighbour recommenders, one for each table. Those of `network` are not added."""

    def __post_init__(self) -> None:
        if self.successions is not None and not self.adds_logit:
            raise ValueError("adds_logit is False: successions correct that logit")
        if self.neighbours and not self.adds_logit:
            raise ValueError("adds_logit is False: neighbours are added to that logit")


@dataclass(frozen=True, kw_only=True)
class RankingOptions:
    """What the ranking network has beyond the paper's."""

    history: HistoryOptions = HistoryOptions()
    embedding_std: float = 1.0
    """Standard deviation of the initial embeddings."""
    matching: MatchingOptions | None = None
    features: tuple[str, ...] = ()
    """Names of continuous features that enter the first layer beside the embeddings: see winnow.networks.features."""
    score: Score = "probability"
    """What the network is trained to predict: whether an item is watched, or for how long (paper, section 4.2)."""

    def __post_init__(self) -> None:
        if self.score not in get_args(Score):
            raise ValueError(f"score is {self.score!r}: it is one of {', '.join(get_args(Score))}")


@dataclass(frozen=True)
class RankingConfig(NetworkConfig):
    """Everything that DeepRankingModel is built from. Without hidden layers it is a logistic regression."""

    options: RankingOptions = RankingOptions()

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.options.matching is None:
            return
        matching = self.options.matching.network
        if matching.n_items != self.n_items:
            raise ValueError(f"matching is a network of {matching.n_items} items, not of {self.n_items}")
        if matching.options.history.watch_features != self.options.history.watch_features:
            raise ValueError("matching has other watch_features: the history of a request is encoded once")

    @property
    def summary_dim(self) -> int:
        """Width of a summarised history."""
        return self.embedding_dim * self.options.history.bag_count

    @property
    def history_length(self) -> int | None:
        """How many of the latest watches any part of the network reads; None is all of them."""
        own = self.options.history.history_length
        if own is None or self.options.matching is None:
            return own
        matching = self.options.matching.network.history_length
        return None if matching is None else max(own, matching)
