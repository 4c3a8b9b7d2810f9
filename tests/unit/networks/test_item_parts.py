"""The attribute parts of the candidate network's tables."""

from dataclasses import replace

import pytest
import torch

from winnow.networks.candidate import DeepCandidateGenerationModel
from winnow.networks.item_parts import AttributePart, ItemParts
from winnow.networks.options import AttributeShape, CandidateOptions

GENRES = torch.tensor([[1, 2], [0, 0], [2, 0], [3, 1]])
YEARS = torch.tensor([[1], [1], [2], [0]])
SHAPES = (AttributeShape(value_count=3, values_per_item=2), AttributeShape(value_count=2, values_per_item=1))
PLAIN = CandidateOptions(embedding_std=0.1)


def test_a_part_is_a_vector_for_all_and_for_each_attribute_the_average_of_the_values() -> None:
    part = AttributePart(SHAPES, width=5)
    for parameter in part.parameters():
        torch.nn.init.normal_(parameter)
    genres, years = part.vectors
    found = part([GENRES, YEARS]) - part.base
    torch.testing.assert_close(found[0], genres[[1, 2]].mean(dim=0) + years[1])
    torch.testing.assert_close(found[1], years[1])
    torch.testing.assert_close(found[2], genres[2] + years[2])
    torch.testing.assert_close(found[3], genres[[3, 1]].mean(dim=0))
    nothing_known = torch.zeros(1, 1, dtype=torch.int64)
    torch.testing.assert_close(part([nothing_known, nothing_known])[0], part.base)


def test_a_network_with_parts_begins_as_the_one_without() -> None:
    plain = DeepCandidateGenerationModel(4, 6, 6, 1, 1, PLAIN)
    with_parts = DeepCandidateGenerationModel(4, 6, 6, 1, 1, replace(PLAIN, parts=SHAPES))
    history = [torch.tensor([0, 2])]
    assert torch.equal(plain(history), with_parts(history))
    assert set(with_parts.state_dict()) - set(plain.state_dict()) == {
        f"parts.{table}.{name}" for table in ("embedding", "output") for name in ("base", "vectors.0", "vectors.1")
    }


@pytest.mark.parametrize("tied", [False, True])
def test_folding_adds_the_parts_to_the_tables(tied: bool) -> None:
    network = DeepCandidateGenerationModel(4, 6, 6, 1, 1, replace(PLAIN, parts=SHAPES, tied_tables=tied))
    assert isinstance(network.parts, ItemParts)
    for parameter in network.parts.parameters():
        torch.nn.init.normal_(parameter)
    own = network.embedding.weight.detach().clone(), network.item_vectors_IH.detach().clone()
    network.parts.fold(network.embedding.weight, network.item_vectors_IH, [GENRES, YEARS])
    torch.testing.assert_close(network.embedding.weight, own[0] + network.parts.embedding([GENRES, YEARS]))
    of_output = network.parts.embedding if tied else network.parts.output
    assert of_output is not None
    torch.testing.assert_close(network.item_vectors_IH, own[1] + of_output([GENRES, YEARS]))
