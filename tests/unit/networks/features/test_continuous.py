"""Features enter the first layer beside the embeddings, only those that were asked for are computed."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from tests.unit.networks.features.requests import (
    CANDIDATE,
    ITEMS,
    PLAIN,
    network_of,
    packed,
    raw_features,
    some_requests,
)
from winnow.contexts import RequestContexts
from winnow.history import RaggedRows
from winnow.networks.features.continuous import ContinuousFeatures
from winnow.networks.features.registry import FEATURES
from winnow.networks.folded_ranking import FoldedRanking, item_half_table
from winnow.networks.options import RankingOptions
from winnow.networks.packed import average
from winnow.networks.ranking import DeepRankingModel


@pytest.mark.parametrize("name", FEATURES)
def test_one_feature_alone_is_its_column_of_all(name: str) -> None:
    requests = some_requests(20, seed=5)
    alone = raw_features(network_of(options=replace(PLAIN, features=(name,))), *requests)
    everything = raw_features(network_of(), *requests)
    torch.testing.assert_close(alone[:, 0], everything[:, list(FEATURES).index(name)], rtol=0, atol=0, equal_nan=True)


def test_only_the_features_of_a_network_are_computed(monkeypatch: pytest.MonkeyPatch) -> None:
    network = network_of(options=replace(PLAIN, features=("popularity", "author_watches")))
    monkeypatch.setattr(CANDIDATE.__class__, "candidate_logits", None)
    monkeypatch.setattr("winnow.networks.features.batch.FeatureBatch.same_category", None)
    assert raw_features(network, *some_requests(5, seed=5)).shape[1] == 2


def test_a_network_reads_contexts_where_a_feature_does() -> None:
    requests = some_requests(5, seed=5)
    indifferent = network_of(options=replace(PLAIN, features=("popularity", "category_watches", "similarity")))
    assert not indifferent.reads_contexts
    assert packed(indifferent, *requests)[0].request_times is None
    reading = network_of(options=replace(PLAIN, features=("popularity", "item_unclicked")))
    assert reading.reads_contexts
    assert packed(reading, *requests)[0].request_times is not None
    assert not DeepRankingModel(ITEMS, 8, 6, 2, seed=1).reads_contexts


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


@pytest.mark.parametrize("n_hidden_layers", [0, 1, 3])
@torch.inference_mode()
def test_the_first_layer_is_linear_in_user_item_and_features(n_hidden_layers: int) -> None:
    network = network_of(n_hidden_layers)
    histories, candidates = packed(network, *some_requests(17, seed=7))
    columns = network.feature_columns(histories, candidates)
    assert columns is not None
    assert network.features is not None
    summaries = average(network.embedding.weight, histories._replace(codes=None))
    inputs = [summaries[candidates.list_of_each_row()], network.embedding.weight[candidates.rows], columns]
    layer = network.tower[0] if n_hidden_layers else network.output
    weights = torch.cat([layer.get_parameter("weight"), network.features.layer.weight], dim=1)
    torch.testing.assert_close(
        network.above_first_layer(torch.cat(inputs, dim=1) @ weights.T), network.logits(histories, candidates)
    )


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


def test_a_request_of_which_nothing_is_known_but_its_history_has_features_too() -> None:
    histories, _, candidates = some_requests(10, seed=5)
    found = raw_features(network_of(), histories, None, candidates)
    names = np.array(list(FEATURES))
    assert set(names[found.isnan().all(dim=0).numpy()]) == {
        "seconds_since_author_watch",
        "seconds_since_category_watch",
        "item_age_seconds",
    }


def test_what_does_not_fit_together_is_named() -> None:
    with pytest.raises(ValueError, match="features: freshness: they are some of seconds_since_author_watch"):
        ContinuousFeatures(ITEMS, ["popularity", "freshness"], 6, has_candidate_network=True)
    with pytest.raises(ValueError, match="matching is None: the features candidate_score and similarity read"):
        DeepRankingModel(ITEMS, 8, 6, 2, 1, RankingOptions(features=("candidate_score", "popularity", "similarity")))
