"""The manifest allows bfloat16 where it keeps the order of what is ranked, and only there."""

from pathlib import Path

import numpy as np
import pytest
import torch

from tests.releases import ITEM_COUNT, write_random_release
from winnow.history import RaggedRows
from winnow.index.exact import ExactIndex
from winnow.networks.candidate import DeepCandidateGenerationModel
from winnow.networks.ranking import DeepRankingModel
from winnow.release.manifest import ArithmeticEntry
from winnow.release.models.arithmetic import compare_arithmetic
from winnow.release.reader import open_current_release


def some_histories(count: int) -> RaggedRows:
    rng = np.random.default_rng(0)
    return RaggedRows.from_lists([rng.integers(0, ITEM_COUNT, rng.integers(0, 9)).tolist() for _ in range(count)])


def compared(ranking: DeepRankingModel, histories: RaggedRows) -> ArithmeticEntry:
    candidate = DeepCandidateGenerationModel(ITEM_COUNT, 12, 8, 2, 0)
    with torch.inference_mode():
        return compare_arithmetic(candidate, ranking, ExactIndex(candidate.item_vectors_IH), histories)


def ranking_network() -> DeepRankingModel:
    return DeepRankingModel(ITEM_COUNT, 12, 8, 2, 1).eval()


def test_scores_that_bfloat16_cannot_tell_apart_forbid_it() -> None:
    network = ranking_network()
    with torch.no_grad():
        # All items alike but for a thousandth of their embeddings, which is less than the eight bits of a bfloat16.
        network.embedding.weight.mul_(1e-3).add_(network.embedding.weight[0].clone() * 1e3)
    entry = compared(network, some_histories(100))
    assert entry.kind == "float32"
    assert entry.top_20_overlap < 0.9
    assert 0 < entry.compared_on_query_count < 100


def test_scores_that_lie_far_apart_allow_it() -> None:
    network = ranking_network()
    with torch.no_grad():
        # Powers of two have no digits to lose.
        network.embedding.weight.copy_(torch.exp2(torch.randint(-9, 9, network.embedding.weight.shape).float()))
        for layer in network.tower:
            layer.get_parameter("weight").fill_(1.0)
    entry = compared(network, some_histories(100))
    assert entry.top_20_overlap > 0.9
    assert entry.ndcg_at_10_difference < 0.05


def test_without_a_watch_to_hold_out_nothing_is_compared() -> None:
    assert compared(ranking_network(), RaggedRows.from_lists([[], [3]])) == ArithmeticEntry(kind="float32")


@pytest.mark.parametrize("seed", [0, 1])
def test_the_manifest_says_what_was_measured(tmp_path: Path, seed: int) -> None:
    write_random_release(tmp_path, seed)
    entry = open_current_release(tmp_path).manifest.ranking_arithmetic
    good = entry.top_20_overlap >= 0.99 and entry.ndcg_at_10_difference <= 0.0005
    assert entry.kind == ("bfloat16" if good else "float32")
    assert entry.compared_on_query_count == 4
