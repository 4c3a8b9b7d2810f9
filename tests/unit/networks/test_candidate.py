import re
from typing import Any

import pytest
import torch

from winnow.history import RaggedRows
from winnow.networks.candidate import DeepCandidateGenerationModel
from winnow.networks.options import AttributeShape, CandidateOptions, HistoryOptions
from winnow.networks.packed import pack, pack_tensors
from winnow.networks.watch_features import WatchFeatures

CPU = torch.device("cpu")
HISTORIES = [[7, 3, 9], [], [11], [0, 1, 2, 3, 4, 5, 6, 7], [5, 5, 5]]
BAGS = HistoryOptions(history_length=4, bag_decays=(0.1, 0.5))
GENRES = AttributeShape(value_count=3, values_per_item=2)
AUTHOR = AttributeShape(value_count=6, values_per_item=1)
PLAIN = CandidateOptions()
OPTIONS: list[tuple[CandidateOptions, dict[str, int]]] = [
    (PLAIN, {}),
    (CandidateOptions(history=HistoryOptions(history_length=3)), {}),
    (CandidateOptions(history=HistoryOptions(history_length=4, bag_decays=(0.0, 0.5, 3.0))), {}),
    (CandidateOptions(history=BAGS, linear_skip=True, embedding_std=0.05), {}),
    (CandidateOptions(linear_skip=True), {"n_hidden_layers": 0}),
    (CandidateOptions(tied_tables=True), {"hidden_dim": 5}),
    (
        CandidateOptions(
            history=HistoryOptions(history_length=4, watch_features=WatchFeatures(weight_edges=(2.0,))),
            attributes=(GENRES, AUTHOR),
            attribute_dim=2,
        ),
        {},
    ),
    (CandidateOptions(history=BAGS, attributes=(GENRES,), example_age=True, linear_skip=True), {}),
]
SHAPE = {"n_items": 12, "embedding_dim": 5, "hidden_dim": 4, "n_hidden_layers": 2, "seed": 3}


def network_of(options: CandidateOptions = PLAIN, **shape: int) -> DeepCandidateGenerationModel:
    network = DeepCandidateGenerationModel(**SHAPE | shape, options=options)
    if network.attributes is not None:
        generator = torch.Generator().manual_seed(1)
        network.attributes.fill(
            [
                torch.randint(attribute.value_count + 1, (12, attribute.values_per_item), generator=generator)
                for attribute in options.attributes
            ]
        )
    return network


@pytest.mark.parametrize(("options", "shape"), OPTIONS)
def test_packed_equals_forward(options: CandidateOptions, shape: dict[str, int]) -> None:
    network = network_of(options, **shape)
    user_vectors = network.user_vectors(pack(RaggedRows.from_lists(HISTORIES), CPU))
    expected = network([torch.tensor(history, dtype=torch.int64) for history in HISTORIES])
    torch.testing.assert_close(torch.softmax(network.logits(user_vectors), dim=1), expected)


@pytest.mark.parametrize(("options", "shape"), OPTIONS)
def test_a_batch_equals_its_users_one_by_one(options: CandidateOptions, shape: dict[str, int]) -> None:
    network = network_of(options, **shape)
    together = network([torch.tensor(history, dtype=torch.int64) for history in HISTORIES])
    alone = [network([torch.tensor(history, dtype=torch.int64)]) for history in HISTORIES]
    torch.testing.assert_close(together, torch.cat(alone))


@pytest.mark.parametrize(("options", "shape"), OPTIONS)
def test_an_empty_history_is_the_zero_vector(options: CandidateOptions, shape: dict[str, int]) -> None:
    network = network_of(options, **shape)
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
        network_of(CandidateOptions(history=HistoryOptions(history_length=3)))([torch.tensor([1, 2, 7, 3, 9])]),
        network_of()([torch.tensor([7, 3, 9])]),
    )


@pytest.mark.parametrize(("options", "shape"), OPTIONS)
def test_the_logits_of_candidates_are_those_of_all_items(options: CandidateOptions, shape: dict[str, int]) -> None:
    network = network_of(options, **shape)
    histories = pack(RaggedRows.from_lists(HISTORIES), CPU)
    candidates = RaggedRows.from_lists([[3, 4], [0], [], [11, 1, 1], [5]])
    all_logits = network.logits(network.user_vectors(histories))
    torch.testing.assert_close(
        network.candidate_logits(histories, pack(candidates, CPU)),
        torch.cat([all_logits[user, torch.from_numpy(candidates[user]).long()] for user in range(len(candidates))]),
    )


@pytest.mark.parametrize(("options", "shape"), OPTIONS)
def test_weights_can_be_loaded_into_a_network_without_any(options: CandidateOptions, shape: dict[str, int]) -> None:
    # How a release is loaded: every tensor has to come from the file.
    network = network_of(options, **shape)
    with torch.device("meta"):
        empty = DeepCandidateGenerationModel.from_config(network.config)
    empty.load_state_dict(network.state_dict(), assign=True)
    history = [torch.tensor([7, 3, 9, 1, 2])]
    torch.testing.assert_close(empty(history), network(history), rtol=0, atol=0)


def test_tied_tables_are_one() -> None:
    network = network_of(CandidateOptions(tied_tables=True), hidden_dim=5)
    assert network.item_vectors_IH is network.embedding.weight
    assert len(network.state_dict()) == 1 + len(network.tower)


@pytest.mark.parametrize(("options", "shape"), OPTIONS)
def test_construction_leaves_the_generator_alone(options: CandidateOptions, shape: dict[str, int]) -> None:
    state = torch.random.get_rng_state()
    network_of(options, **shape)
    assert torch.equal(state, torch.random.get_rng_state())


@pytest.mark.parametrize("name", ["n_items", "embedding_dim", "hidden_dim", "n_hidden_layers"])
@pytest.mark.parametrize("value", [0, -1, 2.5, "3", True])
def test_an_invalid_shape_is_named(name: str, value: Any) -> None:
    with pytest.raises(ValueError, match=f"^{name} is {re.escape(repr(value))}"):
        network_of(**{name: value})


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
