"""Features are what a loop over requests makes of them, and enter the first layer beside the embeddings."""

import math

import numpy as np
import pytest
import torch

from winnow.contexts import RequestContexts
from winnow.history import UNKNOWN_TIME, RaggedRows, WatchHistories
from winnow.networks.candidate import DeepCandidateGenerationModel
from winnow.networks.folded_ranking import FoldedRanking, item_half_table
from winnow.networks.packed import PackedTensor, pack
from winnow.networks.ranking import DeepRankingModel
from winnow.networks.ranking_features import FEATURES, SIMILAR_WATCHES, ItemFacts, RankingFeatures

ITEMS = 30
RNG = np.random.default_rng(1)
FACTS = ItemFacts(
    authors=RNG.integers(-1, 6, ITEMS).astype(np.int32),
    categories=RNG.integers(-1, 3, ITEMS).astype(np.int32),
    uploaded=np.where(RNG.random(ITEMS) < 0.2, UNKNOWN_TIME, RNG.integers(0, 9000, ITEMS)),
    durations=np.where(RNG.random(ITEMS) < 0.2, -1, RNG.random(ITEMS) * 60).astype(np.float32),
    popularity=RNG.random(ITEMS).astype(np.float32),
)
MATCHING = DeepCandidateGenerationModel(ITEMS, 8, 4, 1, seed=2, history_length=12)


def network_of(n_hidden_layers: int = 2, **options: object) -> DeepRankingModel:
    network = DeepRankingModel(
        ITEMS,
        8,
        6,
        n_hidden_layers,
        seed=1,
        history_length=12,
        matching=MATCHING.constructor_arguments(),
        matching_logit=False,
        features=FEATURES,
        **options,  # type: ignore[arg-type]
    )
    assert network.matching is not None
    assert network.features is not None
    network.matching.load_state_dict(MATCHING.state_dict())
    network.features.set_facts(FACTS)
    network.features.fit(network.raw_features(*packed(network, *some_requests(200, seed=3))))
    return network.eval().requires_grad_(requires_grad=False)


def some_requests(count: int, seed: int) -> tuple[WatchHistories, RequestContexts, RaggedRows]:
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
    return network.pack(histories, contexts), pack(candidates, ITEMS, "candidates", torch.device("cpu"))


def plainly(histories: WatchHistories, contexts: RequestContexts, candidates: RaggedRows) -> list[list[float]]:
    """The features of every candidate, one request after the other, in the order of FEATURES."""

    def since(earlier: float, now: float) -> float:
        known = earlier != UNKNOWN_TIME and now != UNKNOWN_TIME
        return max(now - earlier, 0.0) if known else math.nan

    found = []
    for request in range(len(histories)):
        bounds = slice(histories.offsets[request], histories.offsets[request + 1])
        watched, times = histories.rows[bounds][-12:].tolist(), histories.timestamps[bounds][-12:].tolist()
        shown, now = contexts.unclicked[request].tolist(), int(contexts.times[request])
        user = MATCHING.user_vectors(MATCHING.pack(RaggedRows.from_lists([watched])))
        table = MATCHING.embedding.weight
        for row in candidates[request].tolist():
            features: list[float] = []
            for groups in (FACTS.authors, FACTS.categories):
                same = [n for n, other in enumerate(watched) if groups[other] == groups[row] != -1]
                features += [since(times[same[-1]], now) if same else math.nan, float(len(same))]
            features.append(float(shown.count(row)))
            for groups in (FACTS.authors, FACTS.categories):
                features.append(float(sum(groups[other] == groups[row] != -1 for other in shown)))
            features += [since(int(FACTS.uploaded[row]), now), float(FACTS.popularity[row])]
            features.append(float(FACTS.durations[row]) if FACTS.durations[row] >= 0 else math.nan)
            if watched:
                latest = table[watched[-SIMILAR_WATCHES:]].mean(dim=0)
                features.append(float(torch.cosine_similarity(latest, table[row], dim=0)))
                features.append(float(user[0] @ MATCHING.item_vectors_IH[row]))
            else:
                features += [math.nan, math.nan]
            found.append(features)
    return found


@torch.inference_mode()
def test_raw_features_are_what_a_loop_over_requests_makes_of_them() -> None:
    requests = some_requests(40, seed=5)
    network = network_of()
    expected = np.array(plainly(*requests))
    found = network.raw_features(*packed(network, *requests)).numpy()
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)
    assert np.isnan(expected).any(axis=0).sum() == 6
    assert (np.nan_to_num(expected) != 0).any(axis=0).all()


@torch.inference_mode()
def test_a_request_of_which_nothing_is_known_but_its_history_has_features_too() -> None:
    histories, _, candidates = some_requests(10, seed=5)
    network = network_of()
    found = network.raw_features(*packed(network, histories, None, candidates))
    unknown = network.raw_features(*packed(network, histories, RequestContexts.unknown(10), candidates))
    torch.testing.assert_close(found, unknown, equal_nan=True)
    names = np.array(FEATURES)
    assert set(names[found.isnan().all(dim=0).numpy()]) == {name for name in FEATURES if "seconds_" in name} - {
        "duration_seconds"
    } | {"item_age_seconds"}


def test_a_feature_becomes_its_quantile_with_square_and_root() -> None:
    features = RankingFeatures(1, ["popularity", "author_watches"])
    values = torch.stack([torch.arange(1000.0).square(), (torch.arange(1000) >= 600).float()], dim=1)
    values[:100, 1] = torch.nan
    features.fit(values[torch.randperm(1000)])
    found = features(torch.tensor([[-5.0, 0.0], [500.0**2, 1.0], [1e9, torch.nan]])).view(3, 4, 2)
    known, level, square, root = found.unbind(1)
    assert known.tolist() == [[1, 1], [1, 1], [1, 0]]
    # Half of the ones that are known are 0: they stand in the middle of their half.
    expected = torch.tensor([[0.0, 5 / 18], [0.5, 7 / 9], [1.0, 0.0]])
    torch.testing.assert_close(level, expected, rtol=0, atol=0.005)
    assert ((level >= 0) & (level < 1)).all()
    torch.testing.assert_close(square, level**2)
    torch.testing.assert_close(root, level**0.5)


@pytest.mark.parametrize("n_hidden_layers", [0, 1, 3])
@pytest.mark.parametrize("block_rows", [1, 1000])
@torch.inference_mode()
def test_folded_scores_equal_plain_ones(n_hidden_layers: int, block_rows: int, monkeypatch: pytest.MonkeyPatch) -> None:
    network = network_of(n_hidden_layers)
    monkeypatch.setattr("winnow.networks.folded_ranking.BLOCK_NUMBERS_CPU", block_rows * network.first_layer_width)
    requests = packed(network, *some_requests(17, seed=7))
    table = item_half_table(network, 2**20)
    assert table is not None
    plain = network.logits(*requests)
    torch.testing.assert_close(FoldedRanking(network, table).logits(*requests), plain)
    columns = network.feature_columns(*requests)
    torch.testing.assert_close(network.logits(*requests, network.item_halves(), columns_NC=columns), plain)
    # The first layer is one linear layer of [user; item; features].
    first = torch.cat(
        [
            network._summaries(requests[0])[requests[1].list_of_each_row()],
            network.embedding.weight[requests[1].rows],
            columns,  # type: ignore[list-item]
        ],
        dim=1,
    )
    assert network.feature_layer is not None
    layer = network.tower[0] if n_hidden_layers else network.output
    weights = torch.cat([layer.weight, network.feature_layer.weight], dim=1)  # type: ignore[list-item]
    torch.testing.assert_close(network.above_first_layer(first @ weights.T), plain)


@torch.inference_mode()
def test_a_score_does_not_depend_on_the_rest_of_the_batch() -> None:
    network = network_of()
    histories, contexts, candidates = some_requests(9, seed=7)
    together = network.logits(*packed(network, histories, contexts, candidates))
    for request in range(9):
        context = RequestContexts(contexts.times[[request]], RaggedRows.from_lists([contexts.unclicked[request]]))
        alone = network.logits(
            *packed(network, histories.slice(request, request + 1), context, candidates.slice(request, request + 1))
        )
        torch.testing.assert_close(alone, together[candidates.offsets[request] : candidates.offsets[request + 1]])


@pytest.mark.parametrize("n_hidden_layers", [0, 2])
@torch.inference_mode()
def test_rescaling_is_of_the_logits(n_hidden_layers: int) -> None:
    network = network_of(n_hidden_layers, score="watch_seconds")
    requests = packed(network, *some_requests(5, seed=9))
    before = network.logits(*requests)
    network.rescale(0.5, 2.0)
    torch.testing.assert_close(network.logits(*requests), 0.5 * before + 2.0)
    torch.testing.assert_close(network.scores(before), before.exp())
    network.output.bias.fill_(1e6)
    assert network.scores(network.logits(*requests)).isfinite().all()


def test_what_does_not_fit_together_is_named() -> None:
    with pytest.raises(ValueError, match="features: freshness: they are some of seconds_since_author_watch"):
        DeepRankingModel(ITEMS, 8, 6, 2, seed=1, features=["freshness"])
    with pytest.raises(ValueError, match="matching is None: the features candidate_score and similarity"):
        DeepRankingModel(ITEMS, 8, 6, 2, seed=1, features=["similarity"])
    with pytest.raises(ValueError, match="score is 'odds'"):
        DeepRankingModel(ITEMS, 8, 6, 2, seed=1, score="odds")  # type: ignore[arg-type]
