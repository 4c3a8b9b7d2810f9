"""The candidate network learns what is planted, and training computes what serving computes."""

from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
import torch
from torch.nn.functional import cross_entropy

from tests.unit.training.settings import TINY
from tests.unit.training.trainees import ITEM_COUNT, SPLIT, candidate_trainee, context_in
from winnow.evaluation.rank_figures import rank_figures
from winnow.evaluation.ranks import candidate_ranks, popularity_ranks, top_candidates
from winnow.logs.rollback import visible_before
from winnow.logs.side_values import SideValues
from winnow.networks.candidate import DeepCandidateGenerationModel
from winnow.training.loop import train

# Beside the group of each item, something that does not matter, and that the first items do not have.
SIDES = [
    SideValues(values=np.arange(40, dtype=np.int32)[:, None] % 2 + 1, value_count=2),
    SideValues(
        values=np.stack([np.arange(40, dtype=np.int32) // 9, np.arange(40, dtype=np.int32) // 13], 1), value_count=4
    ),
]


def share_of_own_group(network: DeepCandidateGenerationModel) -> float:
    """Of the nine best candidates: each user has nine or more unseen items of the own group."""
    tops = top_candidates(network, SPLIT.test.histories, candidate_count=9)
    groups = torch.from_numpy(SPLIT.test.targets % 2).unsqueeze(1)
    return float((tops % 2 == groups).float().mean())


@pytest.mark.parametrize("softmax", ["full", "sampled"])
@pytest.mark.parametrize("bag_decays", [None, (0.0, 0.5)])
def test_candidates_are_of_the_users_group(
    softmax: Literal["full", "sampled"], bag_decays: tuple[float, ...] | None, tmp_path: Path
) -> None:
    options = replace(TINY.candidate.options, history=replace(TINY.candidate.options.history, bag_decays=bag_decays))
    settings = replace(TINY.candidate, options=options, softmax=softmax, exclude_watched=softmax == "full")
    trainee = candidate_trainee(settings)
    before = share_of_own_group(trainee.network)
    train(trainee, context_in(tmp_path))
    assert before < 0.7
    assert share_of_own_group(trainee.network) > 0.95
    popularity = rank_figures(popularity_ranks(SPLIT.watch_counts(ITEM_COUNT), SPLIT.test), SPLIT.test.users)
    ours = rank_figures(candidate_ranks(trainee.network, SPLIT.test), SPLIT.test.users)
    assert ours["mrr"] > 1.5 * popularity["mrr"]


@pytest.mark.parametrize(
    ("options", "settings"),
    [
        ({"tied_tables": True}, {}),
        ({"tied_tables": True}, {"softmax": "sampled"}),
        ({}, {"softmax": "sampled", "negatives": "mixed"}),
        ({}, {"softmax": "sampled", "log_q": False}),
        ({"example_age": True}, {}),
        ({}, {"examples_per_user": 5}),
        ({"attribute_dim": 4}, {"attribute_columns": ("group", "other")}),
        ({"attribute_dim": 4, "example_age": True}, {"attribute_columns": ("group", "other"), "softmax": "sampled"}),
        ({}, {"n_hidden_layers": 0}),
    ],
)
def test_every_option_learns_the_groups(options: dict[str, Any], settings: dict[str, Any], tmp_path: Path) -> None:
    changed = replace(TINY.candidate, options=replace(TINY.candidate.options, **options), **settings)
    trainee = candidate_trainee(changed, SIDES if changed.attribute_columns else ())
    train(trainee, context_in(tmp_path))
    assert share_of_own_group(trainee.network) > 0.95


def test_training_computes_what_serving_computes() -> None:
    """The loss of one step over all examples, against the networks' packed form, example by example."""
    settings = replace(
        TINY.candidate,
        dropout=0.0,
        feature_dropout=0.0,
        held_back_share=0.0,
        exclude_watched=False,
        chunks_per_batch=999,
    )
    trainee = candidate_trainee(settings, SIDES)
    for name, weights in trainee.network.named_parameters():
        if "code_" in name:  # what begins as zeros or ones would show no mistake
            torch.nn.init.normal_(weights, std=0.3)
    [(loss, example_count)] = trainee.losses(0)
    training = SPLIT.training
    users = np.repeat(np.arange(len(training)), training.lengths)
    positions = np.arange(len(users)) - training.offsets[users]
    with_history = positions > 0
    watched = visible_before(training, users[with_history], positions[with_history])
    assert len(watched) == example_count
    logits = trainee.network.logits(trainee.network.user_vectors(trainee.network.pack(watched)))
    expected = cross_entropy(logits, torch.from_numpy(training.rows[with_history]).long())
    torch.testing.assert_close(loss, expected)


def test_examples_of_a_user_are_sampled_anew_in_each_epoch() -> None:
    settings = replace(TINY.candidate, examples_per_user=3, held_back_share=0.0, dropout=0.0, feature_dropout=0.0)
    trainee = candidate_trainee(settings)
    assert [sum(count for _, count in trainee.losses(epoch)) for epoch in range(2)] == [3 * len(SPLIT.training)] * 2
    first, again, other = (next(trainee.losses(epoch))[0].item() for epoch in (0, 0, 1))
    assert first == again != other
