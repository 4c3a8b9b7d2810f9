"""Features of a watch: the same codes in training and in serving, and what the bags make of them."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from winnow.history import UNKNOWN_TIME, RaggedRows, WatchHistories
from winnow.logs.rollback import visible_before
from winnow.networks.candidate import DeepCandidateGenerationModel
from winnow.networks.history_bags import HistoryBags
from winnow.networks.options import CandidateOptions, HistoryOptions, MatchingOptions, RankingOptions
from winnow.networks.packed import pack_histories
from winnow.networks.ranking import DeepRankingModel
from winnow.networks.watch_features import WatchFeatures, quantile_edges
from winnow.training.rollback_chunks import RollbackChunks

CPU = torch.device("cpu")
ITEM_COUNT, EMBEDDING_DIM, HISTORY_LENGTH = 20, 6, 5
FEATURES = WatchFeatures(weight_edges=(2.0, 4.0), gap_edges_seconds=(1.0, 60.0))
HISTORY = HistoryOptions(
    history_length=HISTORY_LENGTH, bag_decays=(0.0, 0.3), bag_lags=(0,), signed_bags=1, watch_features=FEATURES
)


def histories(lists: list[list[tuple[int, float, int]]]) -> WatchHistories:
    """Each watch is a row, a weight and a timestamp."""
    watches = [watch for list_ in lists for watch in list_]
    return WatchHistories.from_lengths(
        np.array([row for row, _, _ in watches], dtype=np.int32),
        np.array([len(list_) for list_ in lists]),
        np.array([weight for _, weight, _ in watches], dtype=np.float32),
        np.array([timestamp for _, _, timestamp in watches], dtype=np.int64),
    )


LOG = histories(
    [
        [(row, float(row % 6), 40 * row * row) for row in range(17)],
        [(3, 5.0, 7)],
        [],
        [(9, 1.0, 0), (9, float("nan"), 0), (8, 4.0, UNKNOWN_TIME), (2, 2.0, 500), (1, 1.0, 530)],
    ]
)


def test_codes_are_ranges() -> None:
    codes = FEATURES.codes(histories([[(0, 1.9, 100), (0, 2.0, 100), (0, 9.0, 159), (0, float("nan"), 219)]]))
    assert codes[:, 0].tolist() == [1, 2, 3, 0]
    assert codes[:, 1].tolist() == [0, 1, 2, 3]


def test_the_first_watch_of_each_history_has_no_gap() -> None:
    codes = FEATURES.codes(histories([[], [(0, 1.0, 5)], [], [(0, 1.0, 900), (0, 1.0, 100)]]))
    # A clock that went backwards counts as no time at all.
    assert codes[:, 1].tolist() == [0, 0, 1]


def test_a_gap_with_one_end_unknown_is_unknown() -> None:
    codes = FEATURES.codes(LOG)[-5:]
    assert codes[:, 1].tolist() == [0, 1, 0, 0, 2]


def test_no_timestamp_overflows() -> None:
    last, first = np.iinfo(np.int64).max, np.iinfo(np.int64).min + 1
    assert FEATURES.codes(histories([[(0, 1.0, first), (0, 1.0, last), (0, 1.0, first)]]))[:, 1].tolist() == [0, 3, 1]


def test_quantile_edges_cut_where_values_change() -> None:
    ratings = np.repeat(np.array([1, 2, 3, 4, 5], dtype=np.float32), [6, 11, 26, 35, 22])
    assert quantile_edges(ratings, 10) == (2.0, 3.0, 4.0, 5.0)
    assert quantile_edges(np.ones(9, dtype=np.float32), 10) == ()
    assert quantile_edges(np.arange(100, dtype=np.float32), 4) == (25.0, 50.0, 74.0)


@settings(deadline=None)
@given(chunk_length=st.integers(1, 7), position=st.integers(1, 17))
def test_serving_codes_a_history_as_training_does(chunk_length: int, position: int) -> None:
    chunks = RollbackChunks(LOG, chunk_length=chunk_length, history_length=HISTORY_LENGTH, features=FEATURES)
    batch = chunks.batch(np.array([(position - 1) // chunk_length]))
    target = (position - 1) % chunk_length + 1
    band = slice(target, target + HISTORY_LENGTH)
    assert batch.codes is not None
    trained_on = batch.codes[0, band][batch.present[0, band]]
    request = visible_before(LOG, np.array([0]), np.array([position]))
    served = pack_histories(request, HISTORY_LENGTH, FEATURES, CPU).codes
    assert served is not None
    np.testing.assert_array_equal(served.numpy(), trained_on)


def bags_with_features() -> HistoryBags:
    bags = HistoryBags(replace(HISTORY, bag_lags=(0, 1)), EMBEDDING_DIM)
    generator = torch.Generator().manual_seed(1)
    for parameter in bags.parameters():
        torch.nn.init.normal_(parameter, generator=generator)
    return bags


@pytest.mark.parametrize("chunk_length", [1, 4, 32])
def test_chunks_equal_the_packed_form(chunk_length: int) -> None:
    bags = bags_with_features()
    table = torch.randn(ITEM_COUNT, EMBEDDING_DIM)
    chunks = RollbackChunks(LOG, chunk_length=chunk_length, history_length=HISTORY_LENGTH, features=FEATURES)
    for number in range(len(chunks)):
        batch = chunks.batch(np.array([number]))
        codes = torch.from_numpy(batch.codes)
        watched = table[torch.from_numpy(batch.rows)] + bags.code_vectors(codes)
        watched = watched * torch.from_numpy(batch.present).unsqueeze(-1)
        summaries = bags.of_chunks(watched, torch.from_numpy(batch.history_lengths), codes)[0]
        for target in batch.labelled[0].nonzero()[0]:
            visible = visible_before(LOG, batch.users, batch.history_lengths[:, target])
            packed = pack_histories(visible, HISTORY_LENGTH, FEATURES, CPU)
            torch.testing.assert_close(summaries[target], bags(table, packed)[0], rtol=1e-4, atol=1e-5)


def test_a_bag_begins_as_one_watch_or_as_likes_less_dislikes() -> None:
    bags = HistoryBags(replace(HISTORY, history_length=3, bag_decays=(0.0,), bag_lags=(1,)), 2)
    table = torch.eye(3)[:, :2] + torch.tensor([0.0, 1.0])
    watched = histories([[(0, 1.0, 0), (1, 3.0, 0), (2, 5.0, 0)]])
    alone, signed = bags(table, pack_histories(watched, 3, FEATURES, CPU)).view(2, 2)
    torch.testing.assert_close(alone, table[1], rtol=0, atol=0.01)
    torch.testing.assert_close(signed, (table[2] - table[0]) / 3)


def networks() -> list[DeepCandidateGenerationModel | DeepRankingModel]:
    candidate = DeepCandidateGenerationModel(ITEM_COUNT, EMBEDDING_DIM, 4, 2, 1, CandidateOptions(history=HISTORY))
    options = RankingOptions(history=HISTORY, matching=MatchingOptions(network=candidate.config))
    ranking = DeepRankingModel(ITEM_COUNT, EMBEDDING_DIM, 4, 2, 2, options)
    generator = torch.Generator().manual_seed(3)
    for network in (candidate, ranking):
        for name, parameter in network.named_parameters():
            if "code_" in name:
                torch.nn.init.normal_(parameter, generator=generator)
    return [candidate, ranking]


def scores(network: DeepCandidateGenerationModel | DeepRankingModel, watched: RaggedRows) -> torch.Tensor:
    packed = network.pack(watched)
    if isinstance(network, DeepCandidateGenerationModel):
        return network.logits(network.user_vectors(packed))
    candidates = RaggedRows.from_lists([range(ITEM_COUNT)] * len(watched))
    return network.logits(packed, pack_histories(candidates, None, None, CPU)).view(-1, ITEM_COUNT)


@pytest.mark.parametrize("network", networks(), ids=["candidate", "ranking"])
def test_both_networks_see_the_features(network: DeepCandidateGenerationModel | DeepRankingModel) -> None:
    known = scores(network, LOG)
    without = replace(LOG, weights=np.full_like(LOG.weights, np.nan))
    sooner = replace(LOG, timestamps=np.where(LOG.timestamps == UNKNOWN_TIME, UNKNOWN_TIME, LOG.timestamps // 100))
    assert not torch.allclose(known[0], scores(network, without)[0])
    assert not torch.allclose(known[0], scores(network, sooner)[0])
    # A batch of callers who know and callers who do not is answered as each of them alone.
    mixed = WatchHistories.concatenate([LOG, RaggedRows(LOG.rows, LOG.offsets)])
    alone = torch.cat([known, scores(network, RaggedRows(LOG.rows, LOG.offsets))])
    torch.testing.assert_close(scores(network, mixed), alone)


@pytest.mark.parametrize("network", networks(), ids=["candidate", "ranking"])
def test_a_release_can_rebuild_the_network(network: DeepCandidateGenerationModel | DeepRankingModel) -> None:
    with torch.device("meta"):
        rebuilt = type(network).from_config(network.config)  # type: ignore[arg-type]
    rebuilt.load_state_dict(network.state_dict(), assign=True)
    torch.testing.assert_close(scores(rebuilt, LOG), scores(network, LOG), rtol=0, atol=0)
