"""The folded network scores as the plain one does, whatever is in the batch and however small the blocks are."""

import pytest
import torch

from winnow.networks import folded_ranking
from winnow.networks.folded_ranking import FoldedRanking, item_half_table
from winnow.networks.options import (
    Arithmetic,
    CandidateConfig,
    CandidateOptions,
    HistoryOptions,
    MatchingOptions,
    RankingOptions,
    SuccessionOptions,
)
from winnow.networks.packed import PackedTensor, pack_tensors
from winnow.networks.ranking import DeepRankingModel
from winnow.networks.watch_features import WatchFeatures

ITEMS, WIDTH = 400, 64
FLOAT32_BYTES = 4 * ITEMS * WIDTH

PLAIN = RankingOptions()
WATCHED = HistoryOptions(
    history_length=5, bag_decays=(0.0, 0.5), signed_bags=1, watch_features=WatchFeatures(weight_edges=(2.0,))
)
OPTIONS = [
    PLAIN,
    RankingOptions(history=HistoryOptions(history_length=5, bag_decays=(0.0, 0.5))),
    RankingOptions(matching=MatchingOptions(network=CandidateConfig(ITEMS, 8, 8, 2, 3))),
    RankingOptions(
        history=WATCHED,
        matching=MatchingOptions(
            network=CandidateConfig(ITEMS, 8, 8, 0, 3, CandidateOptions(history=WATCHED, linear_skip=True)),
            successions=SuccessionOptions(pair_count=3, latest_count=2),
        ),
    ),
    RankingOptions(
        matching=MatchingOptions(network=CandidateConfig(ITEMS, 8, 8, 2, 3), adds_logit=False),
        features=("author_watches", "similarity", "candidate_score"),
    ),
]


def ranking_network(options: RankingOptions = PLAIN) -> DeepRankingModel:
    network = DeepRankingModel(ITEMS, 32, 16, 3, 1, options)
    return network.eval().requires_grad_(requires_grad=False)


def some_queries(query_count: int) -> tuple[PackedTensor, PackedTensor]:
    generator = torch.Generator().manual_seed(query_count)

    def lists(most: int) -> PackedTensor:
        lengths = torch.randint(0, most, (query_count,), generator=generator).tolist()
        return pack_tensors([torch.randint(ITEMS, (length,), generator=generator) for length in lengths], ITEMS, "x")

    return lists(9), lists(150)


@pytest.mark.parametrize("options", OPTIONS)
@pytest.mark.parametrize("query_count", [0, 1, 2, 17])
@pytest.mark.parametrize(("budget_bytes", "tolerance"), [(0, 1e-5), (FLOAT32_BYTES, 1e-5), (FLOAT32_BYTES // 2, 1e-3)])
@pytest.mark.parametrize("block_numbers", [1, 200 * WIDTH, 1 << 20])
def test_scores_equal_the_plain_network(
    options: RankingOptions,
    query_count: int,
    budget_bytes: int,
    tolerance: float,
    block_numbers: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(folded_ranking, "BLOCK_NUMBERS_CPU", block_numbers)
    network = ranking_network(options)
    table = item_half_table(network, budget_bytes)
    assert (table is not None) == bool(budget_bytes)
    histories, candidates = some_queries(query_count)
    plain = network.logits(histories, candidates)
    scale = float(plain.abs().max()) if len(plain) else 1.0
    torch.testing.assert_close(
        FoldedRanking(network, table).logits(histories, candidates), plain, rtol=0, atol=tolerance * scale
    )


@pytest.mark.parametrize("budget_bytes", [0, 4 * ITEMS * 512])
@pytest.mark.parametrize("arithmetic", ["float32", "bfloat16"])
def test_wide_layers_are_computed_by_other_kernels_to_the_same_scores(
    arithmetic: Arithmetic, budget_bytes: int
) -> None:
    network = DeepRankingModel(ITEMS, 128, 256, 2, 1).eval().requires_grad_(requires_grad=False)
    assert network.tower[1].get_parameter("weight").numel() >= folded_ranking.SMALLEST_REORDERED_LAYER
    table = item_half_table(network, budget_bytes, arithmetic)
    histories, candidates = some_queries(17)
    plain = network.logits(histories, candidates)
    folded = FoldedRanking(network, table, arithmetic).logits(histories, candidates)
    tolerance = 1e-5 if arithmetic == "float32" else 0.05
    torch.testing.assert_close(folded, plain, rtol=0, atol=tolerance * float(plain.std()))


def test_the_table_is_as_exact_as_its_budget_allows() -> None:
    network = ranking_network()
    precise, half = item_half_table(network, FLOAT32_BYTES), item_half_table(network, FLOAT32_BYTES - 1)
    assert precise is not None
    assert half is not None
    assert (precise.dtype, half.dtype) == (torch.float32, torch.float16)
    assert item_half_table(network, FLOAT32_BYTES // 2 - 1) is None
    below_bfloat16 = item_half_table(network, FLOAT32_BYTES, "bfloat16")
    assert below_bfloat16 is not None
    assert below_bfloat16.dtype == torch.float16
    torch.testing.assert_close(precise, network.item_halves())


@pytest.mark.parametrize("arithmetic", ["float32", "bfloat16"])
def test_a_score_does_not_depend_on_the_rest_of_the_batch(arithmetic: Arithmetic) -> None:
    network = ranking_network()
    table = item_half_table(network, FLOAT32_BYTES)
    assert table is not None
    folded = FoldedRanking(network, table, arithmetic)
    histories, candidates = some_queries(17)
    together = folded.logits(histories, candidates)
    tolerance = 1e-5 if arithmetic == "float32" else 1e-2
    for query in range(17):
        history, listed = (
            PackedTensor(packed.rows[packed.offsets[query] : packed.offsets[query + 1]],
                         torch.tensor([0, int(packed.lengths[query])]))
            for packed in (histories, candidates)
        )  # fmt: skip
        alone = folded.logits(history, listed)
        torch.testing.assert_close(
            alone, together[candidates.offsets[query] : candidates.offsets[query + 1]], rtol=tolerance, atol=tolerance
        )


def test_bfloat16_keeps_the_order_of_what_is_not_close() -> None:
    network = ranking_network()
    table = item_half_table(network, FLOAT32_BYTES)
    assert table is not None
    histories, candidates = some_queries(17)
    exact = FoldedRanking(network, table).logits(histories, candidates)
    cheap = FoldedRanking(network, table, "bfloat16").logits(histories, candidates)
    assert cheap.dtype == torch.float32
    # Eight bits a number, averaged over a layer: a hundredth of the spread of the scores.
    assert float((cheap - exact).abs().max()) < 0.05 * float(exact.std())
