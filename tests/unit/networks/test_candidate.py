import re
from typing import Any

import pytest
import torch

from winnow.history import RaggedRows
from winnow.networks.candidate import DeepCandidateGenerationModel
from winnow.networks.packed import pack, pack_tensors

CPU = torch.device("cpu")
HISTORIES = [[7, 3, 9], [], [11], [0, 1, 2, 3, 4, 5, 6, 7], [5, 5, 5]]
OPTIONS: list[dict[str, Any]] = [
    {},
    {"history_length": 3},
    {"history_length": 4, "bag_decays": [0.0, 0.5, 3.0]},
    {"history_length": 4, "bag_decays": [0.1, 0.5], "linear_skip": True, "embedding_std": 0.05},
    {"linear_skip": True, "n_hidden_layers": 0},
    {"tied_tables": True, "hidden_dim": 5},
    {"history_length": 4, "side_shapes": [[3, 2], [6, 1]], "side_dim": 2},
    {"history_length": 4, "bag_decays": [0.1, 0.5], "side_shapes": [[3, 2]], "example_age": True, "linear_skip": True},
]


def network_of(**options: Any) -> DeepCandidateGenerationModel:
    shape = {"n_items": 12, "embedding_dim": 5, "hidden_dim": 4, "n_hidden_layers": 2, "seed": 3}
    network = DeepCandidateGenerationModel(**shape | options)
    if network.sides is not None:
        generator = torch.Generator().manual_seed(1)
        shapes = options["side_shapes"]
        network.sides.fill([torch.randint(count + 1, (12, width), generator=generator) for count, width in shapes])
    return network


@pytest.mark.parametrize("options", OPTIONS)
def test_packed_equals_forward(options: dict[str, Any]) -> None:
    network = network_of(**options)
    user_vectors = network.user_vectors(pack(RaggedRows.from_lists(HISTORIES), 12, "histories", CPU))
    expected = network([torch.tensor(history, dtype=torch.int64) for history in HISTORIES])
    torch.testing.assert_close(torch.softmax(network.logits(user_vectors), dim=1), expected)


@pytest.mark.parametrize("options", OPTIONS)
def test_a_batch_equals_its_users_one_by_one(options: dict[str, Any]) -> None:
    network = network_of(**options)
    together = network([torch.tensor(history, dtype=torch.int64) for history in HISTORIES])
    alone = [network([torch.tensor(history, dtype=torch.int64)]) for history in HISTORIES]
    torch.testing.assert_close(together, torch.cat(alone))


@pytest.mark.parametrize("options", OPTIONS)
def test_an_empty_history_is_the_zero_vector(options: dict[str, Any]) -> None:
    network = network_of(**options)
    assert not network.user_vectors(pack_tensors([torch.empty(0, dtype=torch.int64)], 12, "histories")).any()


def test_the_plain_network_averages() -> None:
    network = network_of()
    history = torch.tensor([7, 3, 3])
    average = network.embedding.weight[history].mean(dim=0, keepdim=True)
    torch.testing.assert_close(
        network([history]), torch.softmax(network.output(network.user_vectors_of_summaries(average)), dim=1)
    )


def test_a_limited_history_is_its_latest_watches() -> None:
    torch.testing.assert_close(
        network_of(history_length=3)([torch.tensor([1, 2, 7, 3, 9])]), network_of()([torch.tensor([7, 3, 9])])
    )


@pytest.mark.parametrize("options", OPTIONS)
def test_constructor_arguments_rebuild_the_network(options: dict[str, Any]) -> None:
    network = network_of(**options)
    rebuilt = DeepCandidateGenerationModel(**network.constructor_arguments())
    rebuilt.load_state_dict(network.state_dict())
    history = [torch.tensor([7, 3, 9, 1, 2])]
    torch.testing.assert_close(rebuilt(history), network(history), rtol=0, atol=0)
    assert rebuilt.history_length == network.history_length


@pytest.mark.parametrize("options", OPTIONS)
def test_weights_can_be_loaded_into_a_network_without_any(options: dict[str, Any]) -> None:
    # How a release is loaded: every tensor has to come from the file.
    network = network_of(**options)
    with torch.device("meta"):
        empty = DeepCandidateGenerationModel(**network.constructor_arguments())
    empty.load_state_dict(network.state_dict(), assign=True)
    history = [torch.tensor([7, 3, 9, 1, 2])]
    torch.testing.assert_close(empty(history), network(history), rtol=0, atol=0)


def test_tied_tables_are_one() -> None:
    network = network_of(tied_tables=True, hidden_dim=5)
    assert network.item_vectors_IH is network.embedding.weight
    assert len(network.state_dict()) == 1 + len(network.tower)


def test_an_example_of_no_age_is_a_request() -> None:
    network = network_of(example_age=True, linear_skip=True)
    assert network.age_shift is not None
    torch.nn.init.normal_(network.age_shift.weight, generator=torch.Generator().manual_seed(1))
    summaries = torch.randn(2, 5)
    served = network.user_vectors_of_summaries(summaries)
    of_now = network.user_vectors_of_summaries(summaries, example_ages=torch.zeros(2))
    torch.testing.assert_close(of_now, served, rtol=0, atol=0)
    of_before = network.user_vectors_of_summaries(summaries, example_ages=torch.tensor([0.0, 0.25]))
    torch.testing.assert_close(of_before[0], served[0])
    shifted = summaries + network.age_shift(torch.tensor([0.25, 0.0625, 0.5]))
    torch.testing.assert_close(of_before[1], network.user_vectors_of_summaries(shifted)[1])


def test_construction_leaves_the_generator_alone() -> None:
    state = torch.random.get_rng_state()
    network_of(linear_skip=True, history_length=3, side_shapes=[[2, 2]], example_age=True)
    assert torch.equal(state, torch.random.get_rng_state())


@pytest.mark.parametrize("name", ["n_items", "embedding_dim", "hidden_dim", "n_hidden_layers"])
@pytest.mark.parametrize("value", [0, -1, 2.5, "3", True])
def test_an_invalid_shape_is_named(name: str, value: Any) -> None:
    arguments: dict[str, Any] = {"n_items": 12, "embedding_dim": 3, "hidden_dim": 4, "n_hidden_layers": 2, "seed": 1}
    with pytest.raises(ValueError, match=f"^{name} is {re.escape(repr(value))}"):
        DeepCandidateGenerationModel(**arguments | {name: value})


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"bag_decays": [0.0]}, "history_length is None"),
        ({"history_length": 0}, "history_length is 0"),
        ({"history_length": 3, "bag_decays": []}, "bag_decays is empty"),
        ({"tied_tables": True}, "hidden_dim is 4: with tied_tables it has to be embedding_dim, 5"),
        ({"side_shapes": [[3, 2]]}, "history_length is None"),
        ({"history_length": 3, "side_shapes": [[3, 0]]}, "side_shapes are"),
        ({"history_length": 3, "side_shapes": [[3, 1]], "side_dim": 0}, "side_dim is 0"),
    ],
)
def test_an_invalid_option_is_named(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        network_of(**options)


@pytest.mark.parametrize(
    ("histories", "message"),
    [
        ([[1], [2, 12]], r"user_histories\[1\]\[1\] is row 12: rows lie in \[0, 12\)"),
        ([[-1]], r"user_histories\[0\]\[0\] is row -1"),
        ([[1.5]], r"user_histories\[0\] has shape \(1,\) and dtype torch.float32"),
        ([[[1]]], r"user_histories\[0\] has shape \(1, 1\)"),
    ],
)
def test_an_invalid_row_is_named(histories: list[list[Any]], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        network_of()([torch.tensor(history) for history in histories])
