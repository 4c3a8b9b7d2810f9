"""What every index promises, checked against a full sort over a grid of shapes."""

import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from winnow.catalogue.filters.compiler import CompiledFilter
from winnow.history import RaggedRows, Rows
from winnow.index import restricted
from winnow.index.approximate import ApproximateIndex
from winnow.index.exact import ExactIndex
from winnow.index.protocol import CandidateIndex
from winnow.index.selection import Selection
from winnow.queries import Restriction, RetrievalQuery

MakeIndex = Callable[[torch.Tensor], CandidateIndex]


def query_of(counts: np.ndarray | list[int], excluded: list[list[int]]) -> RetrievalQuery:
    return RetrievalQuery.without_histories(np.asarray(counts, dtype=np.int32), RaggedRows.from_lists(excluded))


def scanning_all_lists(items: torch.Tensor) -> ApproximateIndex:
    """What is approximate is then only the order in which FAISS finds; nothing may be missed in small catalogues."""
    return ApproximateIndex.build(items, list_count=min(4, len(items)))


def scanning_one_list(items: torch.Tensor) -> ApproximateIndex:
    index = scanning_all_lists(items)
    index.probe_count = 1
    return index


EVERY_INDEX: dict[str, MakeIndex] = {
    "exact": ExactIndex,
    "exact in small blocks": lambda items: ExactIndex(items, block_scores=64),
    "exact, one score a block": lambda items: ExactIndex(items, block_scores=1),
    "lists, all scanned": scanning_all_lists,
    "lists, one scanned": scanning_one_list,
}

every_index = pytest.mark.parametrize("make", EVERY_INDEX.values(), ids=EVERY_INDEX.keys())
complete_index = pytest.mark.parametrize("make", list(EVERY_INDEX.values())[:4], ids=list(EVERY_INDEX)[:4])


def brute_force(
    user: torch.Tensor, items: torch.Tensor, count: int, excluded: list[int]
) -> tuple[list[int], list[float]]:
    scores = (items @ user).tolist()
    rows = [row for row in np.argsort(-np.array(scores), kind="stable").tolist() if row not in set(excluded)][:count]
    return rows, [scores[row] for row in rows]


def random_queries(item_count: int, query_count: int) -> tuple[torch.Tensor, torch.Tensor, np.ndarray, list[list[int]]]:
    generator = torch.Generator().manual_seed(item_count * 10 + query_count)
    items = torch.randn(item_count, 4, generator=generator)
    users = torch.randn(query_count, 4, generator=generator)
    rng = np.random.default_rng(3)
    counts = rng.integers(1, item_count + 2, query_count).astype(np.int32)
    excluded = [rng.integers(0, item_count, rng.integers(0, item_count + 1)).tolist() for _ in range(query_count)]
    return items, users, counts, excluded


@complete_index
@pytest.mark.parametrize("item_count", [1, 7, 100])
@pytest.mark.parametrize("query_count", [0, 1, 5])
def test_results_equal_a_full_sort(make: MakeIndex, item_count: int, query_count: int) -> None:
    items, users, counts, excluded = random_queries(item_count, query_count)
    # Lists in 4 bits a number may confuse near neighbours at the very end of a list: ask for all, and compare the head.
    asked = np.full_like(counts, item_count)
    found = make(items).search(users, query_of(asked, excluded))

    assert len(found.rows) == query_count
    for query in range(query_count):
        rows, scores = brute_force(users[query], items, int(asked[query]), excluded[query])
        assert found.rows[query].tolist() == rows
        start, end = found.rows.offsets[query : query + 2]
        np.testing.assert_allclose(found.scores[start:end], scores, rtol=1e-5, atol=1e-6)


@every_index
@pytest.mark.parametrize("item_count", [1, 7, 100, 1000])
@pytest.mark.parametrize("query_count", [0, 1, 5])
def test_lists_are_sorted_scored_and_as_long_as_asked(make: MakeIndex, item_count: int, query_count: int) -> None:
    items, users, counts, excluded = random_queries(item_count, query_count)
    found = make(items).search(users, query_of(counts, excluded))
    assert found.rows.rows.dtype == np.int32
    assert found.scores.dtype == np.float32
    for query in range(query_count):
        rows = found.rows[query].tolist()
        start, end = found.rows.offsets[query : query + 2]
        assert len(rows) == len(set(rows)) == min(int(counts[query]), item_count - len(set(excluded[query])))
        assert not set(rows) & set(excluded[query])
        np.testing.assert_allclose(found.scores[start:end], items[rows] @ users[query], rtol=1e-5, atol=1e-6)
        assert (np.diff(found.scores[start:end]) <= 0).all()


@every_index
def test_a_list_is_as_long_as_asked_while_items_remain(make: MakeIndex) -> None:
    user = torch.arange(6.0).unsqueeze(0)
    found = make(torch.eye(6)).search(user, query_of([3], [[5, 4]]))
    assert len(found.rows[0]) == 3
    assert not {4, 5} & set(found.rows[0].tolist())


@complete_index
def test_what_is_excluded_makes_room_for_the_next_best(make: MakeIndex) -> None:
    user = torch.arange(6.0).unsqueeze(0)
    found = make(torch.eye(6)).search(user, query_of([3], [[5, 4]]))
    assert found.rows[0].tolist() == [3, 2, 1]


@every_index
def test_everything_excluded_gives_an_empty_list(make: MakeIndex) -> None:
    found = make(torch.eye(3)).search(torch.ones(1, 3), query_of([2], [[0, 1, 2]]))
    assert found.rows[0].tolist() == []
    assert found.scores.size == 0


@every_index
def test_an_answer_does_not_depend_on_the_other_queries(make: MakeIndex) -> None:
    generator = torch.Generator().manual_seed(0)
    items, users = torch.randn(500, 16, generator=generator), torch.randn(32, 16, generator=generator)
    index = make(items)
    # One query excludes much: others must not get more, or other, items for it.
    exclusions = [[], list(range(100)), *[[query] for query in range(30)]]
    together = index.search(users, query_of([20] * 32, exclusions))
    for query in range(32):
        alone = index.search(users[query : query + 1], query_of([20], [exclusions[query]]))
        assert alone.rows[0].tolist() == together.rows[query].tolist()


def filter_of(matching: list[int], item_count: int) -> CompiledFilter:
    mask = np.zeros(item_count, dtype=np.bool_)
    mask[matching] = True
    return CompiledFilter(
        bitmap=np.packbits(mask, bitorder="little"), item_count=item_count, match_count=int(mask.sum())
    )


SHARES = [0.0, 0.001, 0.05, 0.5, 1.0]


def restricted_queries(
    item_count: int, query_count: int
) -> tuple[dict[str, CompiledFilter], dict[int, Restriction], list[set[int]]]:
    """Filters of every selectivity, restrictions of every kind in turn, and the rows that each query may return."""
    rng = np.random.default_rng(item_count)
    matching = {f"share = {share}": np.flatnonzero(rng.random(item_count) <= share).tolist() for share in SHARES}
    matching["one = true"] = [item_count // 2]
    texts = ["", *matching]
    restrictions, possible = {}, []
    shared = rng.integers(0, item_count, item_count).astype(np.int32)
    for query in range(query_count):
        text = texts[query % len(texts)]
        rows = set(matching[text]) if text else set(range(item_count))
        allowed = None
        if query % 3 == 0:
            # With repetitions and in any order, as a caller may give them.
            allowed = rng.integers(0, item_count, int(rng.integers(0, 2 * item_count))).astype(np.int32)
            # Half of the lists are the same: those are searched together.
            allowed = shared if query % 2 else allowed
            rows &= set(allowed.tolist())
        restriction = Restriction(filter=text, allowed=allowed)
        if restriction:
            restrictions[query] = restriction
        possible.append(rows)
    return {text: filter_of(rows, item_count) for text, rows in matching.items()}, restrictions, possible


@pytest.fixture(params=["rows are scanned", "rows are scanned in blocks", "lists and masks are"])
def few_or_many(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """In catalogues as small as these every selection is small: both ways to search one are taken nevertheless."""
    if request.param == "rows are scanned in blocks":
        monkeypatch.setattr("winnow.index.selection.BLOCK_SCORES", 42 * 16)
        monkeypatch.setattr("winnow.index.selection.BLOCK_NUMBERS", 20)
    if request.param == "lists and masks are":
        monkeypatch.setattr("winnow.index.approximate.LARGEST_SCANNED_SELECTION", 0)
        monkeypatch.setattr("winnow.index.approximate.LARGEST_SCANNED_SHARE", 0.0)
        monkeypatch.setattr("winnow.index.exact.LARGEST_GATHERED_SHARE", 0.0)


@every_index
@pytest.mark.usefixtures("few_or_many")
@pytest.mark.parametrize("item_count", [1, 7, 100, 1000])
def test_restricted_lists_hold_the_best_of_what_is_possible(make: MakeIndex, item_count: int) -> None:
    items, users, counts, excluded = random_queries(item_count, query_count=42)
    filters, restrictions, possible = restricted_queries(item_count, 42)
    query = replace(query_of(counts, excluded), restrictions=restrictions)
    index = make(items)
    found = restricted.search(index, users, query, lambda text: index.select(filters[text]))
    assert found.rows.rows.dtype == np.int32
    assert found.scores.dtype == np.float32
    for number in range(42):
        rows = found.rows[number].tolist()
        start, end = found.rows.offsets[number : number + 2]
        remaining = possible[number] - set(excluded[number])
        assert len(rows) == len(set(rows)) == min(int(counts[number]), len(remaining))
        assert set(rows) <= remaining
        np.testing.assert_allclose(found.scores[start:end], items[rows] @ users[number], rtol=1e-5, atol=1e-6)
        assert (np.diff(found.scores[start:end]) <= 0).all()
        if index.exact:
            left_out = [row for row in range(item_count) if row not in remaining]
            assert rows == brute_force(users[number], items, int(counts[number]), left_out)[0]


@complete_index
@pytest.mark.usefixtures("few_or_many")
def test_restricted_results_equal_a_full_sort(make: MakeIndex) -> None:
    items, users, counts, excluded = random_queries(100, query_count=42)
    filters, restrictions, possible = restricted_queries(100, 42)
    query = replace(query_of(np.full_like(counts, 100), excluded), restrictions=restrictions)
    index = make(items)
    found = restricted.search(index, users, query, lambda text: index.select(filters[text]))
    for number in range(42):
        left_out = [row for row in range(100) if row not in possible[number] or row in excluded[number]]
        assert found.rows[number].tolist() == brute_force(users[number], items, 100, left_out)[0]


@every_index
def test_without_a_restriction_nothing_is_asked_of_a_filter(make: MakeIndex) -> None:
    items, users, counts, excluded = random_queries(100, query_count=5)
    query, index = query_of(counts, excluded), make(items)

    def no_filter(text: str) -> Selection:
        raise AssertionError(f"there is no filter {text}")

    assert restricted.search(index, users, query, no_filter).rows.rows.tolist() == (
        index.search(users, query).rows.rows.tolist()
    )


@every_index
@pytest.mark.usefixtures("few_or_many")
def test_a_restricted_answer_does_not_depend_on_the_other_queries(make: MakeIndex) -> None:
    items, users, counts, excluded = random_queries(500, query_count=21)
    filters, restrictions, _ = restricted_queries(500, 21)
    query = replace(query_of(counts, excluded), restrictions=restrictions)
    index = make(items)

    def selection_of(text: str) -> Selection:
        return index.select(filters[text])

    together = restricted.search(index, users, query, selection_of)
    for number in range(21):
        alone = query_of(counts[number : number + 1], [excluded[number]])
        alone = replace(alone, restrictions={0: restrictions[number]} if number in restrictions else {})
        found = restricted.search(index, users[number : number + 1], alone, selection_of)
        assert found.rows[0].tolist() == together.rows[number].tolist()


def test_every_index_says_whether_it_is_exact() -> None:
    assert ExactIndex(torch.eye(3)).exact
    assert not scanning_all_lists(torch.eye(3)).exact


RETIRED_INDEX: dict[str, Callable[[torch.Tensor, Rows], CandidateIndex]] = {
    "exact": ExactIndex,
    "exact in small blocks": lambda items, retired: ExactIndex(items, retired, block_scores=64),
    "lists, all scanned": lambda items, retired: approximate_without(items, retired, probe_count=4),
    "lists, one scanned": lambda items, retired: approximate_without(items, retired, probe_count=1),
}


def approximate_without(items: torch.Tensor, retired: Rows, probe_count: int) -> ApproximateIndex:
    """As it is opened from a file, which still holds the retired items."""
    built = ApproximateIndex.build(items, list_count=min(4, len(items)))
    with tempfile.TemporaryDirectory() as directory:
        built.save(Path(directory) / "index.faiss")
        return ApproximateIndex.open(
            Path(directory) / "index.faiss", items, min(4, len(items), probe_count), retired=retired
        )


@pytest.mark.parametrize("make", RETIRED_INDEX.values(), ids=RETIRED_INDEX.keys())
@pytest.mark.usefixtures("few_or_many")
@pytest.mark.parametrize("share", [0.01, 0.3, 0.95])
@pytest.mark.parametrize("item_count", [2, 7, 100, 1000])
def test_retired_items_are_never_found_and_make_room_for_others(
    make: Callable[[torch.Tensor, Rows], CandidateIndex], item_count: int, share: float
) -> None:
    """With every filter, list and exclusion, and at counts up to the whole catalogue."""
    items, users, counts, excluded = random_queries(item_count, query_count=42)
    counts[::4] = item_count
    filters, restrictions, possible = restricted_queries(item_count, 42)
    retired = np.flatnonzero(np.random.default_rng(1).random(item_count - 1) < share).astype(np.int32)
    index = make(items, retired)
    query = replace(query_of(counts, excluded), restrictions=restrictions)
    found = restricted.search(index, users, query, lambda text: index.select(filters[text]))
    for number in range(42):
        rows = found.rows[number].tolist()
        remaining = possible[number] - set(excluded[number]) - set(retired.tolist())
        assert len(rows) == len(set(rows)) == min(int(counts[number]), len(remaining))
        assert set(rows) <= remaining
        if index.exact:
            left_out = [row for row in range(item_count) if row not in remaining]
            assert rows == brute_force(users[number], items, int(counts[number]), left_out)[0]
