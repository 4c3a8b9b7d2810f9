"""The served form gives the user vectors of the network's own form, whatever its options and whoever asks with whom."""

import numpy as np
import pytest
import torch

from tests.unit.networks.test_candidate import OPTIONS, network_of
from winnow.history import UNKNOWN_TIME, WatchHistories
from winnow.networks import folded_history
from winnow.networks.folded_history import FoldedUserVectors
from winnow.networks.options import CandidateOptions, HistoryOptions
from winnow.networks.watch_features import WatchFeatures

CODED = HistoryOptions(
    history_length=4,
    bag_decays=(0.1, 0.5),
    bag_lags=(0,),
    signed_bags=1,
    watch_features=WatchFeatures(weight_edges=(2.0, 4.0), gap_edges_seconds=(10.0,)),
)
ALL_OPTIONS = [*OPTIONS, (CandidateOptions(history=CODED), {})]


def some_histories(count: int) -> WatchHistories:
    """Of any length from 0, with weights and times, some of them unknown."""
    rng = np.random.default_rng(count)
    lengths = rng.integers(0, 9, count)
    watches = int(lengths.sum())
    weights = np.where(rng.random(watches) < 0.3, np.nan, rng.uniform(0, 6, watches)).astype(np.float32)
    times = np.where(rng.random(watches) < 0.3, UNKNOWN_TIME, rng.integers(0, 40, watches))
    return WatchHistories.from_lengths(rng.integers(0, 12, watches).astype(np.int32), lengths, weights, times)


@pytest.mark.parametrize(("options", "shape"), ALL_OPTIONS)
@pytest.mark.parametrize("count", [0, 1, 2, 40])
@torch.inference_mode()
def test_folded_equals_packed(
    options: CandidateOptions, shape: dict[str, int], count: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(folded_history, "BLOCK_ITEMS", 5)
    network = network_of(options, **shape)
    for name, weights in network.named_parameters():
        if "code_" in name:  # what begins as zeros or ones would show no mistake
            weights.normal_(generator=torch.Generator().manual_seed(1))
    packed = network.pack(some_histories(count))
    torch.testing.assert_close(FoldedUserVectors(network)(packed), network.user_vectors(packed), rtol=1e-5, atol=1e-6)
