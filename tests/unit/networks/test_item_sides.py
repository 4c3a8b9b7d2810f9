"""What is known of the items stands beside their embeddings, in every form of the bags."""

import numpy as np
import pytest
import torch

from winnow.history import RaggedRows, WatchHistories
from winnow.networks.history_bags import HistoryBags
from winnow.networks.item_sides import ItemSides
from winnow.networks.packed import pack_histories
from winnow.networks.watch_features import WatchFeatures

ITEM_COUNT, EMBEDDING_DIM = 8, 3
GENRES = torch.tensor([[1, 2], [0, 0], [2, 0], [3, 1], [3, 0], [1, 0], [2, 3], [0, 0]])
AUTHORS = torch.tensor([[1], [1], [2], [2], [0], [1], [2], [1]])
FEATURES = WatchFeatures(weight_edges=(2.0,), gap_edges_seconds=(1.0,))


@pytest.fixture
def sides() -> ItemSides:
    torch.manual_seed(1)
    made = ItemSides(ITEM_COUNT, [[3, 2], [2, 1]], 4)
    made.fill([GENRES, AUTHORS])
    return made


def test_a_side_is_the_average_of_the_items_values(sides: ItemSides) -> None:
    genres, authors = (vectors.get_parameter("weight") for vectors in sides.vectors)
    found = sides(torch.tensor([0, 1, 4], dtype=torch.int32))
    torch.testing.assert_close(found[0], torch.cat([genres[[1, 2]].mean(dim=0), authors[1]]))
    torch.testing.assert_close(found[1], torch.cat([torch.zeros(4), authors[1]]))
    torch.testing.assert_close(found[2], torch.cat([genres[3], torch.zeros(4)]))
    assert sides(torch.empty(0, dtype=torch.int32)).shape == (0, sides.width)


@pytest.mark.parametrize("features", [None, FEATURES])
def test_bags_of_items_with_sides_are_bags_of_longer_vectors(sides: ItemSides, features: WatchFeatures | None) -> None:
    table = torch.randn(ITEM_COUNT, EMBEDDING_DIM)
    bags = HistoryBags(4, [0.0, 0.5], features=features, embedding_dim=EMBEDDING_DIM)
    if features is not None:
        for parameter in bags.parameters():
            torch.nn.init.normal_(parameter)
    lists = RaggedRows.from_lists([[0, 1, 2, 3, 4, 5], [], [7], [6, 6]])
    weights = np.arange(9, dtype=np.float32) % 4
    histories = WatchHistories.from_lengths(lists.rows, lists.lengths, weights, np.arange(9) ** 2)
    packed = pack_histories(histories, 4, features, ITEM_COUNT, torch.device("cpu"))
    found = bags(table, packed, sides(packed.rows)).view(4, 2, -1)
    torch.testing.assert_close(found[:, :, :EMBEDDING_DIM], bags(table, packed).view(4, 2, -1))
    # What is known of a watch scales the sides as it scales the item; its vectors are added to the item alone.
    everything = torch.arange(ITEM_COUNT)
    if features is not None:
        bags.code_embedding = torch.nn.Embedding(sum(features.sizes), sides.width)
        torch.nn.init.zeros_(bags.code_embedding.weight)
    torch.testing.assert_close(found[:, :, EMBEDDING_DIM:], bags(sides(everything), packed).view(4, 2, -1))
