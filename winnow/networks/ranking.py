"""The ranking network (paper, section 4): a watch history and an item -> the probability of a watch.

Shape legend: B users, N candidates of all users together, I items, E embedding_dim, K history bags, H hidden_dim.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from winnow.contexts import RequestContexts
from winnow.history import RaggedRows
from winnow.networks.candidate import DeepCandidateGenerationModel
from winnow.networks.history_bags import build_history_bags
from winnow.networks.packed import PackedTensor, average, pack_histories, pack_tensors, with_moments
from winnow.networks.ranking_features import CANDIDATE_SCORE, SIMILARITY, RankingFeatures
from winnow.networks.successions import Successions
from winnow.networks.tower import build_tower, check_shape, climb, drop
from winnow.networks.watch_features import WatchFeatures

# The largest float32 that exp does not take beyond all bounds lies a little higher.
LARGEST_EXPONENT = 80.0

Score = Literal["probability", "watch_seconds"]


class DeepRankingModel(nn.Module):
    """Logistic regression on top of a ReLU tower over [average of the watched items; scored item].

    Both halves use one embedding table (paper, section 4.1.2: embeddings are shared between features).

    Options beyond the paper, off by default: `history_length`, `bag_decays`, `bag_lags`, `signed_bags`,
    `watch_features` and `embedding_std` as in the candidate network; `matching`, the constructor arguments of a
    candidate network, whose logit of the item for the history is added to the tower's. That network is part of this one
    but not trained with it: the tower learns what to correct in the order of the candidates, and needs nothing but the
    same histories to do so. `successions`, further arguments of Successions, adds what it knows to that logit.

    `features` are names of RankingFeatures: their columns enter the first layer beside the two embeddings. Those that
    are the candidate network's opinion need `matching`; with `matching_logit` off that is all it is there for. `score`
    says what the network was trained to answer: the probability of a watch, or its expected length, e to the logit
    (paper, section 4.2). Without hidden layers it is a logistic regression on its inputs, the paper's simplest one.
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
        embedding_std: float = 1.0,
        matching: Mapping[str, Any] | None = None,
        successions: Mapping[str, int] | None = None,
        features: Sequence[str] | None = None,
        matching_logit: bool = True,
        score: Score = "probability",
    ) -> None:
        """Draw all weights from `seed`. Raises ValueError that names an invalid argument."""
        super().__init__()
        check_shape(n_items=n_items, embedding_dim=embedding_dim, hidden_dim=hidden_dim)
        check_shape(smallest=0, n_hidden_layers=n_hidden_layers)
        if successions is not None and (matching is None or not matching_logit):
            raise ValueError("matching is None: successions correct its logits")
        if score not in get_args(Score):
            raise ValueError(f"score is {score!r}: it is one of {', '.join(get_args(Score))}")
        self.n_items = n_items
        self.watch_features = None if watch_features is None else WatchFeatures.from_arguments(watch_features)
        self.bags = build_history_bags(
            history_length,
            bag_decays,
            lags=bag_lags,
            signed_bags=signed_bags,
            features=self.watch_features,
            embedding_dim=embedding_dim,
        )
        summary_dim = embedding_dim * (1 if self.bags is None else self.bags.n_bags)
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
            "embedding_std": embedding_std,
            "matching": None if matching is None else dict(matching),
            "successions": None if successions is None else dict(successions),
            "features": None if features is None else list(features),
            "matching_logit": matching_logit,
            "score": score,
        }
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.embedding = nn.Embedding(n_items, embedding_dim)
            # The notebook's author drew an unused layer here: 36 numbers for hidden_dim 6. Its printed outputs follow
            # from the same seed only if they are drawn too; at other sizes any count would do.
            torch.rand(hidden_dim * hidden_dim)
            self.tower = build_tower(summary_dim + embedding_dim, hidden_dim, n_hidden_layers)
            input_dim = summary_dim + embedding_dim
            self.output = nn.Linear(hidden_dim if n_hidden_layers else input_dim, 1)
            self.successions = None if successions is None else Successions(n_items, **successions)
            self.features = None if features is None else RankingFeatures(n_items, features)
            # The features' columns of the first layer: a layer of their own, so that the others are drawn as ever.
            self.feature_layer = None
            if self.features is not None:
                self.feature_layer = nn.Linear(self.features.column_count, self.first_layer_width, bias=False)
        with torch.no_grad():
            self.embedding.weight.mul_(embedding_std)
        self.matching = None if matching is None else DeepCandidateGenerationModel(**matching)
        if self.matching is not None:
            if self.matching.n_items != n_items:
                raise ValueError(f"matching is a network of {self.matching.n_items} items, not of {n_items}")
            if self.matching.watch_features != self.watch_features:
                raise ValueError("matching has other watch_features: the history of a request is coded once")
            self.matching.requires_grad_(requires_grad=False)
        elif self.features is not None and {CANDIDATE_SCORE, SIMILARITY} & set(self.features.names):
            raise ValueError(f"matching is None: the features {CANDIDATE_SCORE} and {SIMILARITY} are its opinion")

    def constructor_arguments(self) -> dict[str, Any]:
        """Return JSON values with which `DeepRankingModel(**arguments)` builds the same shape."""
        return dict(self._constructor_arguments)

    @property
    def history_length(self) -> int | None:
        """How many of the latest watches the network looks at; None is all of them."""
        lengths = [self._constructor_arguments["history_length"]]
        if self.matching is not None:
            lengths.append(self.matching.history_length)
        return None if None in lengths else max(lengths)

    @property
    def score(self) -> Score:
        """What `scores` are."""
        score: Score = self._constructor_arguments["score"]
        return score

    def pack(self, histories: RaggedRows, contexts: RequestContexts | None = None) -> PackedTensor:
        """Bring histories into the form that `logits` reads, with what else is known of each request.

        Raises ValueError that names an invalid row.
        """
        device = self.embedding.weight.device
        packed = pack_histories(histories, self.history_length, self.watch_features, self.n_items, device)
        return packed if self.features is None else with_moments(packed, histories, contexts, self.n_items)

    def forward(self, user_history: Tensor, scored_item: Tensor) -> Tensor:
        """Return the score of each scored item for one user, [N, 1], from two integer vectors of rows.

        An empty history is the zero vector. Raises ValueError that names the first invalid row.
        """
        histories = pack_tensors([user_history], self.n_items, "user_history")
        candidates = pack_tensors([scored_item], self.n_items, "scored_item")
        return self.scores(self.logits(histories, candidates)).unsqueeze(1)

    def scores(self, logits: Tensor) -> Tensor:
        """Turn logits into what the network answers: probabilities, or seconds."""
        if self.score == "probability":
            return torch.sigmoid(logits)
        return torch.exp(logits.clamp(max=LARGEST_EXPONENT))

    @property
    def first_layer_width(self) -> int:
        """D, the width of the first layer."""
        return int(self._first_layer().get_parameter("weight").shape[0])

    def item_halves(self, rows: slice = slice(None)) -> Tensor:
        """Return each item's share of the first layer's output, [I, D], D its width; of some `rows` only if asked.

        The first layer is linear in [user; item]: W [u; v] = W_user u + W_item v. The second term does not depend on
        the request, so it can be computed once for the whole catalogue and given to `logits`.
        """
        _, item_weights = self._first_layer_halves()
        return F.linear(self.embedding.weight[rows], item_weights)

    def user_halves(self, histories: PackedTensor) -> Tensor:
        """Return each history's share of the first layer's output, [B, D]: the other term of `item_halves`."""
        user_weights, _ = self._first_layer_halves()
        return F.linear(self._summaries(histories), user_weights)

    def feature_columns(self, histories: PackedTensor, candidates: PackedTensor) -> Tensor | None:
        """Return the features' columns of the first layer's input for every candidate, [N, C]; None without features.

        They depend on nothing that is trained: training computes them once for all its epochs.
        """
        if self.features is None:
            return None
        columns_NC: Tensor = self.features(self.raw_features(histories, candidates))
        return columns_NC

    def raw_features(self, histories: PackedTensor, candidates: PackedTensor) -> Tensor:
        """Return the features, which have to be there, of every candidate before they become columns, [N, R]."""
        assert self.features is not None  # noqa: S101 - the caller's duty
        embedding_IE = scores_N = None
        if self.matching is not None:
            embedding_IE = self.matching.embedding.weight
            if CANDIDATE_SCORE in self.features.names:
                scores_N = self._matching_logits(self.matching, histories, candidates)
        return self.features.raw(histories, candidates, embedding_IE, scores_N)

    def feature_part(self, columns_NC: Tensor | None) -> Tensor | None:
        """Return the features' share of the first layer's output, [N, D], from `feature_columns`."""
        if columns_NC is None or self.feature_layer is None:
            return None
        part_ND: Tensor = self.feature_layer(columns_NC)
        return part_ND

    def logits(
        self,
        histories: PackedTensor,
        candidates: PackedTensor,
        item_halves_ID: Tensor | None = None,
        *,
        columns_NC: Tensor | None = None,
        dropout: float = 0.0,
    ) -> Tensor:
        """Return the logit of every candidate, [N]: list b of `candidates` is scored for history b.

        `item_halves_ID` is what `item_halves` returned for these weights, `columns_NC` what `feature_columns` returned
        for these requests; without them, the candidates' are computed. `dropout` is for training: the share of what
        passes from one layer to the next that is zeroed.
        """
        user_N = candidates.list_of_each_row()
        user_BD = self.user_halves(histories)
        if item_halves_ID is None:
            _, item_weights = self._first_layer_halves()
            item_ND = F.linear(self.embedding(candidates.rows), item_weights)
        else:
            item_ND = F.embedding(candidates.rows, item_halves_ID)
        first_ND = F.embedding(user_N, user_BD) + item_ND
        feature_ND = self.feature_part(
            self.feature_columns(histories, candidates) if columns_NC is None else columns_NC
        )
        if feature_ND is not None:
            first_ND = first_ND + feature_ND
        return self.with_matching(self.above_first_layer(first_ND, dropout), histories, candidates)

    def above_first_layer(self, first_ND: Tensor, dropout: float = 0.0) -> Tensor:
        """Return the logits of candidates, [N], from what the first layer's weights made of them, before its ReLU."""
        if not self.tower:
            # The first layer is the output, whose bias is still to be added.
            return first_ND.squeeze(1) + self.output.bias
        hidden_ND = torch.relu(first_ND)
        if dropout:
            hidden_ND = drop(hidden_ND, dropout)
        logits_N: Tensor = self.output(climb(self.tower[1:], hidden_ND, dropout)).squeeze(1)
        return logits_N

    @torch.no_grad()
    def rescale(self, factor: float, shift: float) -> None:
        """Change the weights so that every logit becomes `factor` times as large, plus `shift`.

        Raises ValueError where the matching network's logit is a part of it.
        """
        if self.matching is not None and self._constructor_arguments["matching_logit"]:
            raise ValueError("the matching network's logit is a part of this one's: it cannot be rescaled")
        self.output.weight.mul_(factor)
        self.output.bias.mul_(factor).add_(shift)
        if self.feature_layer is not None and not self.tower:
            self.feature_layer.weight.mul_(factor)

    def with_matching(self, logits_N: Tensor, histories: PackedTensor, candidates: PackedTensor) -> Tensor:
        """Add the matching network's logits, where they are to be, and the corrections of `successions` to them."""
        if self.matching is None or not self._constructor_arguments["matching_logit"]:
            return logits_N
        matching_N = self._matching_logits(self.matching, histories, candidates)
        if self.successions is not None:
            logits_N = logits_N + self.successions(histories, candidates, matching_N)
        return logits_N + matching_N

    def succession_features(self, histories: PackedTensor, candidates: PackedTensor) -> Tensor:
        """Return what `successions`, which has to be there, knows of every candidate, [N, F]."""
        assert self.matching is not None  # noqa: S101 - as the constructor made sure
        assert self.successions is not None  # noqa: S101 - the caller's duty
        matching_N = self._matching_logits(self.matching, histories, candidates)
        return self.successions.features(histories, candidates, matching_N)

    @staticmethod
    def _matching_logits(
        matching: DeepCandidateGenerationModel, histories: PackedTensor, candidates: PackedTensor
    ) -> Tensor:
        user_NH = F.embedding(candidates.list_of_each_row(), matching.user_vectors(histories))
        return (user_NH * F.embedding(candidates.rows, matching.item_vectors_IH)).sum(dim=1)

    def _first_layer_halves(self) -> tuple[Tensor, Tensor]:
        weights: Tensor = self._first_layer().get_parameter("weight")
        embedding_dim = self.embedding.embedding_dim
        return weights[:, :-embedding_dim], weights[:, -embedding_dim:]

    def _first_layer(self) -> nn.Module:
        return self.tower[0] if self.tower else self.output

    def _summaries(self, histories: PackedTensor) -> Tensor:
        if self.bags is None:
            return average(self.embedding.weight, histories)
        summaries: Tensor = self.bags(self.embedding.weight, histories)
        return summaries
