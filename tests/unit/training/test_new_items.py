"""Training for items that come later: their attributes alone place them among the items of their group."""

from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
import torch
from torch.nn.functional import cross_entropy

from tests.unit.training.settings import TINY
from tests.unit.training.trainees import ITEM_COUNT, SPLIT, candidate_trainee, context_in
from winnow.catalogue.attribute_codes import AttributeCodes, ItemCodes
from winnow.catalogue.attributes import Attributes
from winnow.catalogue.schema import AttributeType
from winnow.logs.rollback import visible_before
from winnow.logs.side_values import SideValues, coded_values
from winnow.release.models.added_items import candidate_rows
from winnow.training.candidate_trainee import CandidateTrainee
from winnow.training.loop import train
from winnow.training.presets import CandidateSettings

SETTINGS = replace(TINY.candidate, new_items_by=("group",), id_dropout=0.3)
GROUPS = Attributes.from_values(
    {"group": [["even", "odd"][row % 2] for row in range(ITEM_COUNT + 4)]},
    {"group": AttributeType.TEXT},
    ITEM_COUNT + 4,
)
CODES = ItemCodes(parts=(AttributeCodes.fit("group", GROUPS["group"]),))


def trainee_with_parts(settings: CandidateSettings = SETTINGS) -> CandidateTrainee:
    every = coded_values(CODES.parts[0], GROUPS)
    return candidate_trainee(settings, parts=[replace(every, values=every.values[:ITEM_COUNT])])


@pytest.mark.parametrize("softmax", ["full", "sampled"])
@pytest.mark.parametrize("tied", [False, True])
def test_a_new_item_is_placed_by_its_group(softmax: Literal["full", "sampled"], tied: bool, tmp_path: Path) -> None:
    options = replace(SETTINGS.options, tied_tables=tied)
    trainee = trainee_with_parts(replace(SETTINGS, options=options, softmax=softmax, exclude_watched=softmax == "full"))
    train(trainee, context_in(tmp_path))
    trainee.fold()
    rows = candidate_rows(trainee.network, CODES, GROUPS, np.arange(ITEM_COUNT, ITEM_COUNT + 4))
    vectors_NH = rows["embedding.weight" if tied else "output.weight"]
    histories = SPLIT.test.histories
    with torch.no_grad():
        logits_BN = trainee.network.user_vectors(trainee.network.pack(histories)) @ vectors_NH.T
    groups_B = torch.from_numpy(SPLIT.test.targets % 2)
    assert (logits_BN.argmax(dim=1) % 2 == groups_B).float().mean() > 0.95
    # So is a watch of it.
    embedded = torch.cat([trainee.network.embedding.weight, rows["embedding.weight"]])
    similar = torch.nn.functional.cosine_similarity(embedded[ITEM_COUNT:, None], embedded[None, :ITEM_COUNT], dim=2)
    own = torch.arange(4)[:, None] % 2 == torch.arange(ITEM_COUNT) % 2
    assert similar[own].mean() > similar[~own].mean()


def test_what_is_measured_is_what_is_folded(tmp_path: Path) -> None:
    trainee = trainee_with_parts(replace(SETTINGS, epochs=1))
    train(trainee, context_in(tmp_path))
    before = {name: tensor.clone() for name, tensor in trainee.network.state_dict().items()}
    figures = trainee.validate()
    assert all(torch.equal(tensor, before[name]) for name, tensor in trainee.network.state_dict().items())
    trainee.fold()
    trainee.network.parts = None
    assert trainee.validate() == figures


def test_training_with_all_own_parts_computes_what_serving_computes() -> None:
    settings = replace(
        SETTINGS,
        id_dropout=0.0,
        dropout=0.0,
        feature_dropout=0.0,
        held_back_share=0.0,
        exclude_watched=False,
        chunks_per_batch=999,
    )
    trainee = trainee_with_parts(settings)
    assert trainee.network.parts is not None
    for parameter in trainee.network.parts.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    [(loss, example_count)] = trainee.losses(0)
    trainee.fold()
    training = SPLIT.training
    users = np.repeat(np.arange(len(training)), training.lengths)
    positions = np.arange(len(users)) - training.offsets[users]
    with_history = positions > 0
    watched = visible_before(training, users[with_history], positions[with_history])
    assert len(watched) == example_count
    logits = trainee.network.logits(trainee.network.user_vectors(trainee.network.pack(watched)))
    torch.testing.assert_close(loss, cross_entropy(logits, torch.from_numpy(training.rows[with_history]).long()))


def test_items_without_parts_are_trained_as_before() -> None:
    plain, again = candidate_trainee(TINY.candidate), candidate_trainee(TINY.candidate)
    draws = torch.random.get_rng_state()
    first = next(plain.losses(0))[0].item()
    torch.random.set_rng_state(draws)
    assert next(again.losses(0))[0].item() == first
    assert plain.network.parts is None


def test_values_of_attributes_are_of_all_items() -> None:
    values = coded_values(CODES.parts[0], GROUPS)
    assert isinstance(values, SideValues)
    assert values.values.shape == (ITEM_COUNT + 4, 1)
    assert values.value_count == 2
