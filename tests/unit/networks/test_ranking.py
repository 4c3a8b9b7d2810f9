import re
from typing import Any

import pytest
import torch

from winnow.history import RaggedRows
from winnow.networks.candidate import DeepCandidateGenerationModel
from winnow.networks.options import CandidateOptions, HistoryOptions, MatchingOptions, RankingOptions
from winnow.networks.packed import pack
from winnow.networks.ranking import DeepRankingModel

CPU = torch.device("cpu")
HISTORIES = [[7, 3, 9], [], [11], [0, 1, 2, 3, 4, 5, 6, 7]]
CANDIDATES = [[1, 2], [0], [], [5, 6, 7, 8, 11]]
CANDIDATE = DeepCandidateGenerationModel(
    12, 7, 3, 2, 9, CandidateOptions(history=HistoryOptions(history_length=2), linear_skip=True)
)
BAGS = HistoryOptions(history_length=4, bag_decays=(0.0, 0.5))
PLAIN = RankingOptions()
OPTIONS = [
    PLAIN,
    RankingOptions(history=HistoryOptions(history_length=3)),
    RankingOptions(history=BAGS),
    RankingOptions(history=BAGS, matching=MatchingOptions(network=CANDIDATE.config)),
    RankingOptions(history=BAGS, features=("popularity", "author_watches")),
]


def network_of(options: RankingOptions = PLAIN) -> DeepRankingModel:
    return DeepRankingModel(12, 5, 4, 2, 3, options)


@pytest.mark.parametrize("options", OPTIONS)
def test_packed_equals_forward(options: RankingOptions) -> None:
    network = network_of(options)
    logits = network.logits(
        pack(RaggedRows.from_lists(HISTORIES), CPU),
        pack(RaggedRows.from_lists(CANDIDATES), CPU),
    )
    alone = [
        network(torch.tensor(history, dtype=torch.int64), torch.tensor(candidates, dtype=torch.int64)).squeeze(1)
        for history, candidates in zip(HISTORIES, CANDIDATES, strict=True)
    ]
    torch.testing.assert_close(torch.sigmoid(logits), torch.cat(alone))


@pytest.mark.parametrize("options", OPTIONS)
def test_item_halves_of_the_catalogue_change_nothing(options: RankingOptions) -> None:
    network = network_of(options)
    histories = pack(RaggedRows.from_lists(HISTORIES), CPU)
    candidates = pack(RaggedRows.from_lists(CANDIDATES), CPU)
    torch.testing.assert_close(
        network.logits(histories, candidates, network.item_halves()), network.logits(histories, candidates)
    )


def test_the_plain_network_is_a_tower_over_the_concatenation() -> None:
    network = network_of()
    history, items = torch.tensor([7, 3, 9]), torch.tensor([0, 11])
    user = network.embedding.weight[history].mean(dim=0).expand(2, -1)
    hidden = torch.cat([user, network.embedding.weight[items]], dim=1)
    for layer in network.tower:
        hidden = torch.relu(layer(hidden))
    torch.testing.assert_close(network(history, items), torch.sigmoid(network.output(hidden)))


@pytest.mark.parametrize("options", OPTIONS)
def test_weights_can_be_loaded_into_a_network_without_any(options: RankingOptions) -> None:
    network = network_of(options)
    with torch.device("meta"):
        empty = DeepRankingModel.from_config(network.config)
    empty.load_state_dict(network.state_dict(), assign=True)
    request = torch.tensor([7, 3, 9, 1, 2]), torch.tensor([4, 4, 0])
    torch.testing.assert_close(empty(*request), network(*request), rtol=0, atol=0)


@pytest.mark.parametrize("options", OPTIONS)
def test_construction_leaves_the_generator_alone(options: RankingOptions) -> None:
    state = torch.random.get_rng_state()
    network_of(options)
    assert torch.equal(state, torch.random.get_rng_state())


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *((name, 0) for name in ("n_items", "embedding_dim", "hidden_dim")),
        *(
            (name, value)
            for name in ("n_items", "embedding_dim", "hidden_dim", "n_hidden_layers")
            for value in (-1, 2.5, "3", True)
        ),
    ],
)
def test_an_invalid_shape_is_named(name: str, value: Any) -> None:
    arguments: dict[str, Any] = {"n_items": 12, "embedding_dim": 3, "hidden_dim": 4, "n_hidden_layers": 2, "seed": 1}
    with pytest.raises(ValueError, match=f"^{name} is {re.escape(repr(value))}"):
        DeepRankingModel(**arguments | {name: value})


@pytest.mark.parametrize(
    ("history", "items", "message"),
    [
        ([12], [0], r"user_history\[0\]\[0\] is row 12"),
        ([0], [3, -1], r"scored_item\[0\]\[1\] is row -1"),
    ],
)
def test_an_invalid_row_is_named(history: list[int], items: list[int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        network_of()(torch.tensor(history), torch.tensor(items))
