"""Rows of new items in every table of the networks, made from attributes."""

import numpy as np
import torch

from winnow.catalogue.attribute_codes import AttributeCodes, ItemCodes
from winnow.catalogue.attributes import Attributes
from winnow.catalogue.item_facts import NO_GROUP
from winnow.catalogue.schema import AttributeType
from winnow.networks.candidate import DeepCandidateGenerationModel
from winnow.networks.options import (
    AttributeShape,
    CandidateOptions,
    HistoryOptions,
    MatchingOptions,
    NeighbourOptions,
    RankingOptions,
    SuccessionOptions,
)
from winnow.networks.ranking import DeepRankingModel
from winnow.release.models.added_items import candidate_rows, ranking_rows

GENRES = AttributeCodes(name="genres", texts=("a", "b", "c"))


def full_network(item_count: int) -> tuple[DeepCandidateGenerationModel, DeepRankingModel]:
    """Everything that has a row for each item: both parts, attributes of watches, matching, successions, features."""
    history = HistoryOptions(history_length=5, bag_decays=(0.0, 0.5))
    shape = AttributeShape(value_count=3, values_per_item=2)
    options = CandidateOptions(history=history, attributes=(shape,), attribute_dim=4, parts=(shape,))
    candidate = DeepCandidateGenerationModel(item_count, 6, 8, 2, 1, options)
    matching = MatchingOptions(
        network=candidate.config,
        successions=SuccessionOptions(pair_count=7, latest_count=3),
        neighbours=(NeighbourOptions(neighbour_count=5, latest_count=3, recency_decay=0.9),),
    )
    features = ("author_watches", "category_watches", "popularity", "item_age_seconds", "duration_seconds")
    ranking = DeepRankingModel(
        item_count, 6, 8, 2, 2, RankingOptions(history=history, matching=matching, features=features)
    )
    return candidate, ranking


def test_every_table_with_a_row_for_each_item_gets_new_rows() -> None:
    count = 41
    candidate, ranking = full_network(count)
    values: dict[str, list[object]] = {
        "genres": [["a", "b"] if row % 2 == 0 else ["c"] for row in range(count + 1)],
        "author": [f"author {row % 5 if row < count else 3}" for row in range(count + 1)],
        "uploaded": [100 * row for row in range(count + 1)],
        "duration_seconds": [None, *range(1, count + 1)],
    }
    types = {
        "genres": AttributeType.LIST,
        "author": AttributeType.TEXT,
        "uploaded": AttributeType.TIMESTAMP,
        "duration_seconds": AttributeType.NUMBER,
    }
    attributes = Attributes.from_values(values, types, count + 1)
    codes = ItemCodes(watched=(GENRES,), parts=(GENRES,))
    assert ranking.features is not None
    ranking.features.items.authors.copy_(torch.arange(count) % 5 + 10)
    rows = np.array([count])
    of_candidate = candidate_rows(candidate, codes, attributes, rows)
    of_ranking = ranking_rows(ranking, of_candidate, attributes, rows, count)
    for network, added in ((candidate, of_candidate), (ranking, of_ranking)):
        tables = {
            name: tensor for name, tensor in network.state_dict().items() if tensor.dim() and len(tensor) == count
        }
        assert added.keys() == tables.keys()
        for name, tensor in added.items():
            assert (tensor.shape[1:], tensor.dtype) == (tables[name].shape[1:], tables[name].dtype), name
    assert of_candidate["attributes.values_0"].tolist() == [[3, 0]]
    assert of_ranking["features.items.authors"].tolist() == [13]
    assert of_ranking["features.items.categories"].tolist() == [NO_GROUP]
    assert of_ranking["features.items.uploaded"].tolist() == [4100]
    assert of_ranking["features.items.durations"].tolist() == [41.0]


def test_authors_of_new_items_are_those_of_trained_ones_or_new_ones() -> None:
    """Two new items of one new author are of one author; a missing author is nobody's."""
    candidate, ranking = full_network(3)
    names = ["a", "b", None, "b", "c", None, "d", "c"]
    attributes = Attributes.from_values(
        {"author": names, "genres": [["a"]] * 8}, {"author": AttributeType.TEXT, "genres": AttributeType.LIST}, 8
    )
    codes = ItemCodes(watched=(GENRES,), parts=(GENRES,))
    assert ranking.features is not None
    ranking.features.items.authors.copy_(torch.tensor([7, 4, NO_GROUP]))
    rows = np.arange(3, 8)
    found = ranking_rows(ranking, candidate_rows(candidate, codes, attributes, rows), attributes, rows, 3)
    assert found["features.items.authors"].tolist() == [4, 8, NO_GROUP, 9, 8]
    assert found["features.items.durations"].tolist() == [-1] * 5
