"""The candidate-generation network (paper, section 3): a watch history -> a probability for every item.

Shape legend: B users, N watches of all users together, I items, E embedding_dim, D width of the items' sides, K history
bags, H hidden_dim, A age features.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from winnow.history import RaggedRows
from winnow.networks.history_bags import build_history_bags
from winnow.networks.item_sides import ItemSides
from winnow.networks.packed import PackedTensor, average, pack_histories, pack_tensors
from winnow.networks.tower import build_tower, check_shape, climb, drop
from winnow.networks.watch_features import WatchFeatures

# The age of an example, its square and its root (paper, section 4.1.3, on continuous features).
AGE_FEATURE_COUNT = 3


class DeepCandidateGenerationModel(nn.Module):
    """Extreme multi-class classifier over the catalogue.

    The average embedding of the watched items goes through a narrowing ReLU tower; what comes out is the user vector,
    whose product with the output table gives one logit an item. No layer has a bias, so the logits of an empty history
    are all zero. At serving time the softmax is not needed: the best candidates are the largest logits, that is a
    maximum-inner-product search for the user vector in `item_vectors_IH`.

    Options beyond the paper, off by default: `history_length` limits the history to its latest watches; `bag_decays`
    replaces the plain average by weighted ones whose weights are learned, and `bag_lags` adds some that begin with one
    watch alone; `watch_features` (WatchFeatures.arguments) lets the bags see what is known of a watch besides its item,
    `signed_bags` of them as how much it was liked (see HistoryBags for all of these); `linear_skip` adds a linear map
    of the averages to the user vector, so that what is additive in the watches need not pass through the ReLUs, and
    allows for no hidden layers at all;
    `embedding_std` scales the first embeddings (1 is torch's default, a few hundredths train faster); `tied_tables` has
    one table for the embeddings and the output; `side_shapes` and `side_dim` put what is known of each watched item
    beside its embedding (see ItemSides); `example_age` lets training say how old an example is (paper, section 3.3).
    Its features are added to the averages by a linear map. They are zero in serving, where nothing is left of them.
    """

    def __init__(
        self,
        n_items: int,
        embedding_dim: int,
        hidden_dim: int,
        n_hidden_layers: int,
        seed: int,
        *,
        history_length: int | None = None,
        bag_decays: Sequence[float] | None = None,
        bag_lags: Sequence[int] = (),
        signed_bags: int = 0,
        watch_features: Mapping[str, Sequence[float]] | None = None,
        linear_skip: bool = False,
        embedding_std: float = 1.0,
        tied_tables: bool = False,
        side_shapes: Sequence[Sequence[int]] = (),
        side_dim: int = 16,
        example_age: bool = False,
    ) -> None:
        """Draw all weights from `seed`. Raises ValueError that names an invalid argument."""
        super().__init__()
        # Without hidden layers, the linear map is what is left.
        layers = n_hidden_layers if n_hidden_layers or not linear_skip else 1
        check_shape(n_items=n_items, embedding_dim=embedding_dim, hidden_dim=hidden_dim, n_hidden_layers=layers)
        if tied_tables and hidden_dim != embedding_dim:
            raise ValueError(
                f"hidden_dim is {hidden_dim}: with tied_tables it has to be embedding_dim, {embedding_dim}"
            )
        if side_shapes and history_length is None:
            raise ValueError("history_length is None: side_shapes need a history of limited length")
        self.n_items = n_items
        self.tied_tables = tied_tables
        self.history_length = history_length
        self.watch_features = None if watch_features is None else WatchFeatures.from_arguments(watch_features)
        self.bags = build_history_bags(
            history_length,
            bag_decays,
            lags=bag_lags,
            signed_bags=signed_bags,
            features=self.watch_features,
            embedding_dim=embedding_dim,
        )
        watch_dim = embedding_dim + side_dim * len(side_shapes)
        summary_dim = watch_dim * (1 if self.bags is None else self.bags.n_bags)
        self._constructor_arguments: dict[str, Any] = {
            "n_items": n_items,
            "embedding_dim": embedding_dim,
            "hidden_dim": hidden_dim,
            "n_hidden_layers": n_hidden_layers,
            "seed": seed,
            "history_length": history_length,
            "bag_decays": None if bag_decays is None else list(bag_decays),
            "bag_lags": list(bag_lags),
            "signed_bags": signed_bags,
            "watch_features": None if self.watch_features is None else self.watch_features.arguments(),
            "linear_skip": linear_skip,
            "embedding_std": embedding_std,
            "tied_tables": tied_tables,
            "side_shapes": [list(shape) for shape in side_shapes],
            "side_dim": side_dim,
            "example_age": example_age,
        }
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.embedding = nn.Embedding(n_items, embedding_dim)
            self.tower = build_tower(summary_dim, hidden_dim, n_hidden_layers)
            # Of tables that are not tied; what they have in common is `item_vectors_IH`.
            self.output: nn.Linear
            if not tied_tables:
                self.output = nn.Linear(hidden_dim, n_items, bias=False)
            self.skip = nn.Linear(summary_dim, hidden_dim, bias=False) if linear_skip else None
            self.sides = ItemSides(n_items, side_shapes, side_dim) if side_shapes else None
            self.age_shift = nn.Linear(AGE_FEATURE_COUNT, summary_dim, bias=False) if example_age else None
        with torch.no_grad():
            self.embedding.weight.mul_(embedding_std)
            for vectors in () if self.sides is None else self.sides.vectors:
                vectors.get_parameter("weight").mul_(embedding_std)
            if self.age_shift is not None:
                self.age_shift.weight.zero_()

    def constructor_arguments(self) -> dict[str, Any]:
        """Return JSON values with which `DeepCandidateGenerationModel(**arguments)` builds the same shape."""
        return dict(self._constructor_arguments)

    @property
    def item_vectors_IH(self) -> Tensor:
        """What the index searches: float [I, H]."""
        return self.embedding.weight if self.tied_tables else self.output.weight

    def forward(self, user_histories: Sequence[Tensor]) -> Tensor:
        """Return the probability of every item for each user, [B, I], from integer vectors of watched rows.

        An empty history is the zero vector. Raises ValueError that names the first invalid row.
        """
        histories = pack_tensors(user_histories, self.n_items, "user_histories")
        return torch.softmax(self.logits(self.user_vectors(histories)), dim=1)

    def pack(self, histories: RaggedRows) -> PackedTensor:
        """Bring histories into the form that `user_vectors` reads. Raises ValueError that names an invalid row."""
        device = self.embedding.weight.device
        return pack_histories(histories, self.history_length, self.watch_features, self.n_items, device)

    def user_vectors(self, histories: PackedTensor) -> Tensor:
        """Return the user vector of each packed history, [B, H]."""
        return self.user_vectors_of_summaries(self.summaries(histories))

    def summaries(self, histories: PackedTensor) -> Tensor:
        """Return the average, or averages, of each packed history, [B, K * (E + D)]."""
        if self.bags is None:
            return average(self.embedding.weight, histories)
        sides_ND = None if self.sides is None else self.sides(histories.rows)
        summaries: Tensor = self.bags(self.embedding.weight, histories, sides_ND)
        return summaries

    def user_vectors_of_summaries(
        self, summary: Tensor, dropout: float = 0.0, example_ages: Tensor | None = None
    ) -> Tensor:
        """Return the user vector of each summarised history, [..., K * (E + D)] -> [..., H].

        Two arguments are for training: `dropout`, the share of the inputs of every layer that is zeroed, and
        `example_ages`, float [...] in [0, 1], where the network has `example_age`; None is zero.
        """
        if example_ages is not None and self.age_shift is not None:
            features_A = torch.stack([example_ages, example_ages.square(), example_ages.sqrt()], dim=-1)
            summary = summary + self.age_shift(features_A.to(summary.dtype))
        summary = drop(summary, dropout) if dropout else summary
        if self.skip is None:
            return climb(self.tower, summary, dropout)
        linear: Tensor = self.skip(summary)
        return linear + climb(self.tower, summary, dropout) if len(self.tower) else linear

    def logits(self, user_BH: Tensor) -> Tensor:
        """Return the logit of every item, [B, H] -> [B, I]."""
        return F.linear(user_BH, self.item_vectors_IH)
