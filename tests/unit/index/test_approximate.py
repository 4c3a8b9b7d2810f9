"""Inverted lists: how well they find, how they are tuned, saved and opened, and what is refused."""

from pathlib import Path

import faiss
import numpy as np
import pytest
import torch

from winnow.catalogue.filters.compiler import CompiledFilter
from winnow.history import RaggedRows
from winnow.index.approximate import ApproximateIndex
from winnow.index.choose import (
    LARGEST_EXACT_TABLE,
    choose_index,
    list_count,
    narrowest_width,
    recall_of_each,
    smallest,
    tune,
)
from winnow.index.exact import ExactIndex
from winnow.queries import RetrievalQuery


@pytest.fixture(scope="module")
def clustered() -> tuple[torch.Tensor, torch.Tensor]:
    """Items around 50 centres, and users near some of them."""
    generator = torch.Generator().manual_seed(0)
    centres = torch.randn(50, 16, generator=generator)
    items = centres.repeat(200, 1) + 0.3 * torch.randn(10_000, 16, generator=generator)
    users = centres.repeat(4, 1) + 0.3 * torch.randn(200, 16, generator=generator)
    return items, users


# With 200 lists of 50 items, one list would be completed by a full scan and find all: that must not count.
@pytest.mark.parametrize("lists", [16, 64, 200])
@pytest.mark.parametrize("target", [0.8, 0.95, 0.99])
def test_tuning_reaches_its_target_with_as_few_lists_as_possible(
    clustered: tuple[torch.Tensor, torch.Tensor], lists: int, target: float
) -> None:
    items, users = clustered
    index = ApproximateIndex.build(items, lists)
    recall = tune(index, items, users[:100], target)
    assert recall >= target
    assert measured_recall(index, items, users[100:]) >= target - 0.03
    assert index.probe_count * 10_000 / lists >= target * 200, "fewer items scanned than found"
    if index.probe_count > 1:
        index.probe_count -= 1
        recall_of_fewer = measured_recall(index, items, users[:100])
        assert recall_of_fewer < recall
        # Two standard errors of a hundred queries, most of which find all or little.
        assert recall_of_fewer < target + 0.08


def measured_recall(index: ApproximateIndex, items: torch.Tensor, users: torch.Tensor) -> float:
    query = RetrievalQuery.without_histories(np.full(len(users), 200, dtype=np.int32))
    true = ExactIndex(items).search(users, query).rows
    # From the lists alone: `search` may add a full scan.
    found = index.found_in_lists(users, 200 * index.rows_scored_for_each)
    return float(np.mean([np.isin(true[query], found[query]).mean() for query in range(len(users))]))


@pytest.mark.parametrize("near", [True, False])
def test_a_filter_that_hides_what_is_near_the_user_is_searched_in_more_lists(
    clustered: tuple[torch.Tensor, torch.Tensor], near: bool
) -> None:
    """Half of the items match: those nearest to the user, or those farthest from it."""
    items, users = clustered
    index, exact = ApproximateIndex.build(items, 200), ExactIndex(items)
    tune(index, items, users[:100], 0.95)
    query = RetrievalQuery.without_histories(np.array([100], dtype=np.int32))
    recalls = []
    for user in users[100:130]:
        scores = (items @ user).numpy()
        mask = (scores > np.median(scores)) == near
        half = CompiledFilter(
            bitmap=np.packbits(mask, bitorder="little"), item_count=len(mask), match_count=int(mask.sum())
        )
        found = index.search_selected(user[None], query, index.select(half)).rows
        best = exact.search_selected(user[None], query, exact.select(half)).rows
        recalls.append(recall_of_each(found, best).mean())
    assert np.mean(recalls) >= 0.85


def test_what_is_saved_answers_the_same_when_it_is_opened(
    clustered: tuple[torch.Tensor, torch.Tensor], tmp_path: Path
) -> None:
    items, users = clustered
    built = ApproximateIndex.build(items, 64)
    built.probe_count = 5
    built.save(tmp_path / "index.faiss")
    opened = ApproximateIndex.open(tmp_path / "index.faiss", items, probe_count=5)
    exclusions = RaggedRows.from_lists([[row] for row in range(200)])
    query = RetrievalQuery.without_histories(np.full(200, 30, dtype=np.int32), exclusions)
    expected, found = built.search(users, query), opened.search(users, query)
    assert found.rows.rows.tolist() == expected.rows.rows.tolist()
    assert found.scores.tolist() == expected.scores.tolist()


def test_building_twice_gives_the_same_file(clustered: tuple[torch.Tensor, torch.Tensor], tmp_path: Path) -> None:
    items, _ = clustered
    for name in ("one", "two"):
        ApproximateIndex.build(items, 64).save(tmp_path / name)
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()


def test_an_index_of_other_vectors_is_refused(clustered: tuple[torch.Tensor, torch.Tensor], tmp_path: Path) -> None:
    items, _ = clustered
    ApproximateIndex.build(items, 16).save(tmp_path / "index.faiss")
    with pytest.raises(ValueError, match=r"10000 vectors of width 16, the network has \(9999, 16\)"):
        ApproximateIndex.open(tmp_path / "index.faiss", items[1:], probe_count=1)


def test_vectors_that_four_bits_cannot_tell_apart_are_scanned_as_they_are(
    clustered: tuple[torch.Tensor, torch.Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("winnow.index.choose.LARGEST_EXACT_TABLE", 0)
    items, users = clustered
    assert isinstance(choose_index(items, users).index, ApproximateIndex)
    # A few items far off: scores are compared in 65,536 steps, and those of the rest are within one of them.
    far = items.clone()
    far[:16] = 1e7 * torch.eye(16)
    choice = choose_index(far, users)
    assert isinstance(choice.index, ExactIndex)
    assert choice.recall_at_200 == 1


def test_what_is_no_index_is_refused(tmp_path: Path) -> None:
    (tmp_path / "index.faiss").write_bytes(b"not an index at all")
    with pytest.raises(ValueError, match="not an index"):
        ApproximateIndex.open(tmp_path / "index.faiss", torch.eye(4), probe_count=1)


@pytest.mark.parametrize("share", [0.1, 0.5, 0.99])
def test_an_index_that_is_cut_short_is_refused(
    clustered: tuple[torch.Tensor, torch.Tensor], tmp_path: Path, share: float
) -> None:
    items, _ = clustered
    ApproximateIndex.build(items, 16).save(tmp_path / "index.faiss")
    whole = (tmp_path / "index.faiss").read_bytes()
    (tmp_path / "index.faiss").write_bytes(whole[: int(share * len(whole))])
    with pytest.raises(ValueError, match="not an index"):
        ApproximateIndex.open(tmp_path / "index.faiss", items, probe_count=1)


@pytest.mark.parametrize("kind", ["Flat", "IVF4,SQ8", "PCA8,IVF4,SQ8", "PCA8,Flat"])
def test_an_index_of_another_kind_is_refused(
    clustered: tuple[torch.Tensor, torch.Tensor], tmp_path: Path, kind: str
) -> None:
    items, _ = clustered
    other = faiss.index_factory(16, kind, faiss.METRIC_INNER_PRODUCT)
    other.train(items.numpy())
    other.add(items.numpy())
    faiss.write_index(other, str(tmp_path / "index.faiss"))
    with pytest.raises(ValueError, match="and not inverted lists"):
        ApproximateIndex.open(tmp_path / "index.faiss", items, probe_count=1)


def test_vectors_mapped_from_a_file_are_scored_where_they_are(
    clustered: tuple[torch.Tensor, torch.Tensor], tmp_path: Path
) -> None:
    items, users = clustered
    index = ApproximateIndex.build(items, 64)
    index.probe_count = 8
    index.save(tmp_path / "index.faiss")
    items.numpy().tofile(tmp_path / "vectors")
    mapped = torch.from_file(str(tmp_path / "vectors"), shared=True, size=items.numel()).view(items.shape)
    query = RetrievalQuery.without_histories(np.full(len(users), 100, dtype=np.int32))
    found = ApproximateIndex.open(tmp_path / "index.faiss", mapped, probe_count=8).search(users, query)
    expected = index.search(users, query)
    assert found.rows.rows.tolist() == expected.rows.rows.tolist()
    assert found.scores.tolist() == expected.scores.tolist()


def test_tuning_on_some_queries_reaches_the_target_on_others(clustered: tuple[torch.Tensor, torch.Tensor]) -> None:
    items, users = clustered
    index = ApproximateIndex.build(items, 128, width=12)
    tune(index, items, users[:150], 0.95)
    assert measured_recall(index, items, users[150:]) >= 0.93


@pytest.mark.parametrize(("dimensions", "expected"), [(2, 4), (5, 6), (8, 8), (16, 16)])
def test_the_lists_hold_as_few_dimensions_as_the_vectors_need(dimensions: int, expected: int) -> None:
    generator = torch.Generator().manual_seed(0)
    directions, _ = torch.linalg.qr(torch.randn(16, 16, generator=generator))
    items, users = (torch.randn(count, dimensions, generator=generator) for count in (10_000, 50))
    items, users = items @ directions[:dimensions], users @ directions[:dimensions]
    assert narrowest_width(items, users, target_recall=0.98) == expected


def test_an_index_of_fewer_dimensions_answers_with_exact_scores_best_first() -> None:
    generator = torch.Generator().manual_seed(0)
    items = torch.randn(5_000, 16, generator=generator) * torch.logspace(0, -2, 16)
    users = torch.randn(20, 16, generator=generator)
    index = ApproximateIndex.build(items, 16, width=8)
    query = RetrievalQuery.without_histories(np.full(20, 50, dtype=np.int32), RaggedRows.from_lists([range(100)] * 20))
    found, true = index.search(users, query), ExactIndex(items).search(users, query)
    assert recall_of_each(found.rows, true.rows).mean() > 0.95
    for user, vector in enumerate(users):
        scores = found.scores[found.rows.offsets[user] : found.rows.offsets[user + 1]]
        np.testing.assert_allclose(scores, (items[found.rows[user].tolist()] @ vector).numpy(), rtol=1e-4, atol=1e-5)
        assert (np.diff(scores) <= 0).all()
        assert len(scores) == 50


def test_small_catalogues_are_scanned_and_large_ones_need_tuning_queries() -> None:
    small = choose_index(torch.eye(8), torch.empty(0, 8))
    assert small.index.exact
    assert small.recall_at_200 == 1.0
    with pytest.raises(ValueError, match="has to be tuned on user vectors"):
        choose_index(torch.empty(LARGEST_EXACT_TABLE // 8 + 1, 8), torch.empty(0, 8))


@pytest.mark.parametrize(("item_count", "expected"), [(65_536, 1024), (1_000_000, 4096), (10_000_000, 16_384)])
def test_the_number_of_lists_grows_with_the_root_of_the_catalogue(item_count: int, expected: int) -> None:
    assert list_count(item_count) == expected


@pytest.mark.parametrize("limit", [1, 2, 7, 64])
def test_the_smallest_number_that_reaches_is_found(limit: int) -> None:
    for wanted in range(1, limit + 1):
        assert smallest(lambda number, wanted=wanted: number >= wanted, limit) == wanted  # type: ignore[misc]
    assert smallest(lambda _: False, limit) == limit


def test_vectors_are_added_and_replaced_in_the_lists(
    clustered: tuple[torch.Tensor, torch.Tensor], tmp_path: Path
) -> None:
    items, users = clustered
    ApproximateIndex.build(items[:9_000], 64).save(tmp_path / "before.faiss")
    changed = items.clone()
    changed[8_990:9_000] = items[:10] * 1.5
    rows = np.arange(8_990, 10_000)
    ApproximateIndex.update(tmp_path / "before.faiss", tmp_path / "after.faiss", rows, changed[8_990:])
    index = ApproximateIndex.open(tmp_path / "after.faiss", changed, probe_count=12)
    assert measured_recall(index, changed, users) >= 0.95
    # Each row stands once, at its new place.
    query = RetrievalQuery.without_histories(np.full(2, 10_000, dtype=np.int32))
    index.probe_count = 64
    assert [len(set(index.search(users[:2], query).rows[user].tolist())) for user in range(2)] == [10_000] * 2


@pytest.mark.parametrize("value", [1e19, 1e30, float("inf"), float("nan")])
def test_vectors_that_would_end_the_process_in_faiss_are_scanned_and_not_added(
    clustered: tuple[torch.Tensor, torch.Tensor],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    value: float,
) -> None:
    """As a diverged training leaves them: hours of it must not end in a core dump."""
    items, users = clustered
    monkeypatch.setattr("winnow.index.choose.LARGEST_EXACT_TABLE", 1000)
    diverged = items.clone()
    diverged[3, 2] = value
    assert isinstance(choose_index(diverged, users).index, ExactIndex)
    path = tmp_path / "index.faiss"
    ApproximateIndex.build(items[:500], 4).save(path)
    with pytest.raises(ValueError, match="a vector is not finite, or longer than"):
        ApproximateIndex.update(path, tmp_path / "other.faiss", np.array([500]), diverged[3:4])
    assert not (tmp_path / "other.faiss").exists()


def test_what_is_no_index_is_not_updated(tmp_path: Path) -> None:
    (tmp_path / "before.faiss").write_text("no index")
    with pytest.raises(ValueError, match="not an index"):
        ApproximateIndex.update(tmp_path / "before.faiss", tmp_path / "after", np.arange(1), torch.zeros(1, 4))
    assert not (tmp_path / "after").exists()


def test_full_scans_are_counted(clustered: tuple[torch.Tensor, torch.Tensor]) -> None:
    items, users = clustered
    index = ApproximateIndex.build(items, 64)
    index.probe_count = 1
    index.search(users[:3], RetrievalQuery.without_histories(np.array([20, 9_000, 9_000], dtype=np.int32)))
    assert index.full_scan_count == 2
