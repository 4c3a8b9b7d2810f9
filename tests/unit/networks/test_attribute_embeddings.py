"""Attributes extend the embedding of every watch, in every form of the bags."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from winnow.history import RaggedRows, WatchHistories
from winnow.networks.attribute_embeddings import AttributeEmbeddings
from winnow.networks.history_bags import HistoryBags
from winnow.networks.options import AttributeShape, CandidateOptions, HistoryOptions
from winnow.networks.packed import pack_histories
from winnow.networks.tower import draws_from
from winnow.networks.watch_features import WatchFeatures

ITEM_COUNT, EMBEDDING_DIM = 8, 3
GENRES = torch.tensor([[1, 2], [0, 0], [2, 0], [3, 1], [3, 0], [1, 0], [2, 3], [0, 0]])
AUTHORS = torch.tensor([[1], [1], [2], [2], [0], [1], [2], [1]])
FEATURES = WatchFeatures(weight_edges=(2.0,), gap_edges_seconds=(1.0,))


ATTRIBUTES = (AttributeShape(value_count=3, values_per_item=2), AttributeShape(value_count=2, values_per_item=1))
OPTIONS = CandidateOptions(history=HistoryOptions(history_length=4), attributes=ATTRIBUTES, attribute_dim=4)


@pytest.fixture
def attributes() -> AttributeEmbeddings:
    torch.manual_seed(1)
    made = AttributeEmbeddings(ITEM_COUNT, OPTIONS)
    made.fill([GENRES, AUTHORS])
    return made


def test_an_attribute_is_the_average_of_the_items_values(attributes: AttributeEmbeddings) -> None:
    genres, authors = (vectors.get_parameter("weight") for vectors in attributes.vectors)
    found = attributes(torch.tensor([0, 1, 4], dtype=torch.int32))
    torch.testing.assert_close(found[0], torch.cat([genres[[1, 2]].mean(dim=0), authors[1]]))
    torch.testing.assert_close(found[1], torch.cat([torch.zeros(4), authors[1]]))
    torch.testing.assert_close(found[2], torch.cat([genres[3], torch.zeros(4)]))
    assert attributes(torch.empty(0, dtype=torch.int32)).shape == (0, 8)


def test_the_first_embeddings_have_the_asked_deviation() -> None:
    with draws_from(1):
        wide = AttributeEmbeddings(ITEM_COUNT, OPTIONS)
    with draws_from(1):
        narrow = AttributeEmbeddings(ITEM_COUNT, replace(OPTIONS, embedding_std=0.05))
    everything = torch.arange(ITEM_COUNT)
    torch.testing.assert_close(narrow(everything), 0.05 * wide(everything))


@pytest.mark.parametrize("features", [None, FEATURES])
def test_bags_of_items_with_attributes_are_bags_of_longer_vectors(
    attributes: AttributeEmbeddings, features: WatchFeatures | None
) -> None:
    table = torch.randn(ITEM_COUNT, EMBEDDING_DIM)
    history = HistoryOptions(history_length=4, bag_decays=(0.0, 0.5), watch_features=features)
    bags = HistoryBags(history, EMBEDDING_DIM)
    if features is not None:
        for parameter in bags.parameters():
            torch.nn.init.normal_(parameter)
    lists = RaggedRows.from_lists([[0, 1, 2, 3, 4, 5], [], [7], [6, 6]])
    weights = np.arange(9, dtype=np.float32) % 4
    histories = WatchHistories.from_lengths(lists.rows, lists.lengths, weights, np.arange(9) ** 2)
    packed = pack_histories(histories, 4, features, torch.device("cpu"))
    found = bags(table, packed, attributes(packed.rows)).view(4, 2, -1)
    torch.testing.assert_close(found[:, :, :EMBEDDING_DIM], bags(table, packed).view(4, 2, -1))
    # Watch features scale the attributes as they scale the item; their vectors are added to the item alone.
    everything = torch.arange(ITEM_COUNT)
    if features is not None:
        bags.code_embedding = torch.nn.Parameter(torch.zeros(sum(features.sizes), 8))
    torch.testing.assert_close(found[:, :, EMBEDDING_DIM:], bags(attributes(everything), packed).view(4, 2, -1))
