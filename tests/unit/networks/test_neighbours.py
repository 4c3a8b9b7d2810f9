"""Sums of neighbours are what a plain loop gives, in any batch, in the folded form and from a release."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from winnow.history import RaggedRows
from winnow.networks import neighbours as module
from winnow.networks.candidate import DeepCandidateGenerationModel
from winnow.networks.folded_ranking import FoldedRanking, item_half_table
from winnow.networks.neighbours import Neighbours, NeighbourTables
from winnow.networks.options import MatchingOptions, NeighbourOptions, RankingOptions
from winnow.networks.packed import PackedTensor, pack
from winnow.networks.ranking import DeepRankingModel

ITEM_COUNT = 8
CPU = torch.device("cpu")
RNG = np.random.default_rng(1)
VALUES = np.where(RNG.random((ITEM_COUNT, ITEM_COUNT)) < 0.4, RNG.random((ITEM_COUNT, ITEM_COUNT)), 0).astype(
    np.float32
)
OPTIONS = NeighbourOptions(neighbour_count=ITEM_COUNT, latest_count=3, recency_decay=0.5)
lists = st.lists(st.lists(st.integers(0, ITEM_COUNT - 1), max_size=6), min_size=0, max_size=4)


def filled(weight: float = 1.0) -> Neighbours:
    table = Neighbours(ITEM_COUNT, OPTIONS)
    rows = np.argsort(-VALUES, axis=1)
    table.fill(torch.from_numpy(rows), torch.from_numpy(np.take_along_axis(VALUES, rows, axis=1)), weight=weight)
    return table


def two_tables() -> NeighbourTables:
    tables = NeighbourTables(ITEM_COUNT, (OPTIONS, OPTIONS))
    for number, table in enumerate(tables.tables):
        table.load_state_dict(filled(weight=1.0 + number).state_dict())
    return tables


def everything(user_count: int) -> PackedTensor:
    return pack(RaggedRows.from_lists([range(ITEM_COUNT)] * user_count), CPU)


def plain_sum(history: list[int], candidate: int) -> float:
    latest = history[::-1][: OPTIONS.latest_count]
    return sum(0.5**lag * float(VALUES[watched, candidate]) for lag, watched in enumerate(latest))


@settings(deadline=None)
@given(histories=lists, data=st.data(), users_at_once=st.integers(1, 3), dense=st.booleans())
def test_sums_are_what_a_loop_gives(
    histories: list[list[int]], data: st.DataObject, users_at_once: int, dense: bool
) -> None:
    candidates = [data.draw(st.lists(st.integers(0, ITEM_COUNT - 1), max_size=5)) for _ in histories]
    requests = pack(RaggedRows.from_lists(histories), CPU), pack(RaggedRows.from_lists(candidates), CPU)
    with pytest.MonkeyPatch.context() as patched:
        # Sums of a small catalogue are dense, those of a large one are sorted pairs.
        patched.setattr(module, "LARGEST_DENSE", ITEM_COUNT if dense else 0)
        patched.setattr(module, "NUMBERS_AT_ONCE", users_at_once * ITEM_COUNT)
        sums = filled().sums(*requests)
        found = two_tables().item_scores(requests[0])
    pairs = zip(histories, candidates, strict=True)
    expected = [plain_sum(history, candidate) for history, of_user in pairs for candidate in of_user]
    torch.testing.assert_close(sums, torch.tensor(expected, dtype=torch.float32))
    scores = two_tables().add(torch.zeros(ITEM_COUNT * len(histories)), requests[0], everything(len(histories)))
    listed = torch.zeros(len(histories), ITEM_COUNT)
    listed[found.users, found.rows] = found.scores
    torch.testing.assert_close(listed.flatten(), scores)
    assert (found.scores > 0).all()
    assert ((found.users * ITEM_COUNT + found.rows).diff() > 0).all()
    added = filled(weight=2.0)(*requests)
    torch.testing.assert_close(added, 2 * torch.tensor(expected, dtype=torch.float32).div(OPTIONS.scale).log1p())


def network() -> DeepRankingModel:
    candidate = DeepCandidateGenerationModel(ITEM_COUNT, 6, 4, 2, 1)
    matching = MatchingOptions(network=candidate.config, neighbours=(OPTIONS, OPTIONS))
    made = DeepRankingModel(ITEM_COUNT, 6, 4, 2, 2, RankingOptions(matching=matching))
    assert made.matching is not None
    for number, table in enumerate(made.matching.neighbours):
        table.load_state_dict(filled(weight=1.0 + number).state_dict())
    return made.eval().requires_grad_(requires_grad=False)


HISTORIES = RaggedRows.from_lists([[1, 0], [], [4, 4, 7, 2, 0]])
CANDIDATES = RaggedRows.from_lists([[1, 2, 5], [3, 4], list(range(ITEM_COUNT))])


def test_every_table_is_added_to_the_logit_in_every_form() -> None:
    made = network()
    requests = made.pack(HISTORIES), pack(CANDIDATES, CPU)
    together = made.logits(*requests)
    assert made.matching is not None
    without = together - 3 * filled().strengths(*requests)
    matching = made.matching.network.candidate_logits(*requests)
    made.matching.neighbours = NeighbourTables(ITEM_COUNT, ())
    torch.testing.assert_close(made.logits(*requests), without)
    assert not torch.equal(without, matching)
    made = network()
    table = item_half_table(made, 2**20)
    torch.testing.assert_close(FoldedRanking(made, table).logits(*requests), together)
    alone = [
        made.logits(made.pack(HISTORIES.slice(user, user + 1)), pack(RaggedRows.from_lists([[row]]), CPU))
        for user in range(len(HISTORIES))
        for row in CANDIDATES[user].tolist()
    ]
    torch.testing.assert_close(together, torch.cat(alone))
    with torch.device("meta"):
        empty = DeepRankingModel.from_config(made.config)
    empty.load_state_dict(made.state_dict(), assign=True)
    torch.testing.assert_close(empty.logits(*requests), together, rtol=0, atol=0)
