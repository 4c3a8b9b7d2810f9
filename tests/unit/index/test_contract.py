"""What every index promises, checked against a full sort over a grid of shapes."""

import numpy as np
import pytest
import torch

from winnow.history import RaggedRows
from winnow.index.exact import ExactIndex


def brute_force(
    user: torch.Tensor, items: torch.Tensor, count: int, excluded: list[int]
) -> tuple[list[int], list[float]]:
    scores = (items @ user).tolist()
    rows = [row for row in np.argsort(-np.array(scores), kind="stable").tolist() if row not in set(excluded)][:count]
    return rows, [scores[row] for row in rows]


@pytest.mark.parametrize("item_count", [1, 7, 100])
@pytest.mark.parametrize("query_count", [0, 1, 5])
@pytest.mark.parametrize("block_scores", [1, 64, 1_000_000])
def test_results_equal_a_full_sort(item_count: int, query_count: int, block_scores: int) -> None:
    generator = torch.Generator().manual_seed(item_count * 10 + query_count)
    items = torch.randn(item_count, 4, generator=generator)
    users = torch.randn(query_count, 4, generator=generator)
    rng = np.random.default_rng(3)
    counts = rng.integers(1, item_count + 2, query_count).astype(np.int32)
    excluded = [rng.integers(0, item_count, rng.integers(0, item_count + 1)).tolist() for _ in range(query_count)]

    found = ExactIndex(items, block_scores).search(users, counts, RaggedRows.from_lists(excluded))

    assert len(found.rows) == query_count
    for query in range(query_count):
        rows, scores = brute_force(users[query], items, int(counts[query]), excluded[query])
        assert found.rows[query].tolist() == rows
        start, end = found.rows.offsets[query : query + 2]
        np.testing.assert_allclose(found.scores[start:end], scores, rtol=1e-5, atol=1e-6)


def test_a_list_is_as_long_as_asked_while_items_remain() -> None:
    items = torch.eye(6)
    user = torch.arange(6.0).unsqueeze(0)
    found = ExactIndex(items).search(user, np.array([3], dtype=np.int32), RaggedRows.from_lists([[5, 4]]))
    assert found.rows[0].tolist() == [3, 2, 1]


def test_everything_excluded_gives_an_empty_list() -> None:
    found = ExactIndex(torch.eye(3)).search(
        torch.ones(1, 3), np.array([2], dtype=np.int32), RaggedRows.from_lists([[0, 1, 2]])
    )
    assert found.rows[0].tolist() == []
    assert found.scores.size == 0


def test_an_answer_does_not_depend_on_the_other_queries() -> None:
    generator = torch.Generator().manual_seed(0)
    items, users = torch.randn(500, 16, generator=generator), torch.randn(32, 16, generator=generator)
    counts = np.full(32, 20, dtype=np.int32)
    index = ExactIndex(items)
    together = index.search(users, counts, RaggedRows.from_lists([[]] * 32))
    for query in range(32):
        alone = index.search(users[query : query + 1], counts[:1], RaggedRows.from_lists([[]]))
        assert alone.rows[0].tolist() == together.rows[query].tolist()
