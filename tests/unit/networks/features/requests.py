"""A few items, a candidate network and random requests: what features are computed from in these tests."""

import numpy as np
import torch

from winnow.catalogue.item_facts import ItemFacts
from winnow.contexts import RequestContexts
from winnow.history import UNKNOWN_TIME, RaggedRows, WatchHistories
from winnow.networks.candidate import DeepCandidateGenerationModel
from winnow.networks.features.item_tables import ItemTables
from winnow.networks.features.registry import FEATURES
from winnow.networks.options import CandidateOptions, HistoryOptions, MatchingOptions, RankingOptions
from winnow.networks.packed import PackedTensor, pack
from winnow.networks.ranking import DeepRankingModel

ITEMS = 30
HISTORY = HistoryOptions(history_length=12)
RNG = np.random.default_rng(1)
FACTS = ItemFacts(
    authors=RNG.integers(-1, 6, ITEMS).astype(np.int32),
    categories=RNG.integers(-1, 3, ITEMS).astype(np.int32),
    uploaded=np.where(RNG.random(ITEMS) < 0.2, UNKNOWN_TIME, RNG.integers(0, 9000, ITEMS)),
    durations=np.where(RNG.random(ITEMS) < 0.2, -1, RNG.random(ITEMS) * 60).astype(np.float32),
    popularity=RNG.random(ITEMS).astype(np.float32),
)
CANDIDATE = DeepCandidateGenerationModel(ITEMS, 8, 4, 1, 2, CandidateOptions(history=HISTORY))
ITEM_TABLES = ItemTables(ITEMS)
ITEM_TABLES.fill(FACTS)
PLAIN = RankingOptions(
    history=HISTORY,
    matching=MatchingOptions(network=CANDIDATE.config, adds_logit=False),
    features=tuple(FEATURES),
)

Requests = tuple[WatchHistories, RequestContexts | None, RaggedRows]


def network_of(n_hidden_layers: int = 2, options: RankingOptions = PLAIN) -> DeepRankingModel:
    """A ranking network that knows the items and has seen some requests."""
    network = DeepRankingModel(ITEMS, 8, 6, n_hidden_layers, 1, options)
    assert network.candidate_network is not None
    assert network.features is not None
    network.candidate_network.load_state_dict(CANDIDATE.state_dict())
    network.features.items.fill(FACTS)
    network.features.quantiles.fit(raw_features(network, *some_requests(200, seed=3)))
    return network.eval().requires_grad_(requires_grad=False)


def some_requests(count: int, seed: int) -> tuple[WatchHistories, RequestContexts, RaggedRows]:
    """Histories with times, contexts and candidates; some of each are empty or unknown."""
    rng = np.random.default_rng(seed)

    def lists(most: int) -> RaggedRows:
        return RaggedRows.from_lists([rng.integers(0, ITEMS, rng.integers(0, most)).tolist() for _ in range(count)])

    watched = lists(20)
    times = np.sort(rng.integers(0, 9000, len(watched.rows)))
    times[rng.random(len(times)) < 0.2] = UNKNOWN_TIME
    request_times = rng.integers(8000, 20_000, count)
    request_times[: count // 8] = UNKNOWN_TIME
    histories = WatchHistories.from_lengths(watched.rows, watched.lengths, None, times)
    return histories, RequestContexts(request_times, lists(8)), lists(25)


def packed(
    network: DeepRankingModel, histories: WatchHistories, contexts: RequestContexts | None, candidates: RaggedRows
) -> tuple[PackedTensor, PackedTensor]:
    return network.pack(histories, contexts), pack(candidates, torch.device("cpu"))


@torch.no_grad()
def raw_features(
    network: DeepRankingModel, histories: WatchHistories, contexts: RequestContexts | None, candidates: RaggedRows
) -> torch.Tensor:
    assert network.features is not None
    return network.features.raw(*packed(network, histories, contexts, candidates), network.candidate_network)
