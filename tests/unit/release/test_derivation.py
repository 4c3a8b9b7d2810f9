"""A release made from a release answers as one that was written whole and shares its files."""

import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from candidate_service.retriever import Retriever
from gateway.served_catalogue import ServedCatalogue
from ranking_service.ranker import Ranker
from tests.mounts import small_disk
from tests.releases import ATTRIBUTE_TYPES, ITEM_COUNT, attributes_of, item_id, reseal, write_random_release
from winnow.catalogue.attributes import Attributes
from winnow.catalogue.vocabulary import Vocabulary
from winnow.history import RaggedRows, WatchHistories
from winnow.logs.item_changes import ItemChanges, no_changes
from winnow.networks.candidate import DeepCandidateGenerationModel
from winnow.networks.options import NeighbourOptions
from winnow.networks.ranking import DeepRankingModel
from winnow.queries import RankingQuery, RetrievalQuery
from winnow.release.manifest import INDEX_FILE
from winnow.release.models.derivation import DerivedRelease, derive_release
from winnow.release.models.loader import appended_bytes, load_candidate_network, load_ranking_network
from winnow.release.models.writer import ReleaseContents, write_release
from winnow.release.publication import point_current_at
from winnow.release.reader import Release, ReleaseError, current_release_id, open_release

CPU = torch.device("cpu")
CHANGED = [5, 0, 299]
NEW_COUNT = 4
NEW_IDS = [f"new {number}" for number in range(NEW_COUNT)]
COLUMNS = ("title", "year", "genres")


def changes_of(rows: list[int], new_ids: list[str], **values: list[Any]) -> ItemChanges:
    types = {name: ATTRIBUTE_TYPES[name] for name in values}
    return ItemChanges(
        rows=np.array(rows, dtype=np.int64),
        new_item_ids=new_ids,
        attributes=Attributes.from_values(values, types, len(rows)),
    )


def some_changes() -> ItemChanges:
    """Of three items, and four new ones."""
    return changes_of(
        [*CHANGED, *range(ITEM_COUNT, ITEM_COUNT + NEW_COUNT)],
        NEW_IDS,
        title=["A", "B", "Title 299", "New one", "New two", "N", "Title 5"],
        year=[None, 2001, 2002, 1991, 2015, None, 3000],
        genres=[["Comedy"], [], ["Western"], ["Comedy", "Drama"], ["Drama"], ["Western"], None],
    )


def derive(release: Release, changes: ItemChanges | None = None, **kwargs: Any) -> DerivedRelease:
    asked: dict[str, Any] = {"retire": [], "restore": [], "make_current": False} | kwargs
    return derive_release(release, changes or no_changes(), **asked)


def beside(release: Release, made: DerivedRelease) -> Release:
    return open_release(release.path.parent / made.release_id)


@pytest.fixture
def base(tmp_path: Path) -> Release:
    return open_release(tmp_path / write_random_release(tmp_path, takes_new_items=True))


@pytest.fixture
def with_lists(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Release:
    """With an approximate index: no catalogue is too small for one here."""
    monkeypatch.setattr("winnow.index.choose.LARGEST_EXACT_TABLE", 0)
    return open_release(tmp_path / write_random_release(tmp_path, takes_new_items=True))


def written_whole(base: Release, changes: ItemChanges) -> Release:
    """The release with these changes from plain Python values, the parts of new items summed up one by one."""
    count = ITEM_COUNT + len(changes.new_item_ids)
    before = attributes_of(ITEM_COUNT)
    values = {name: [before[name][row] for row in range(ITEM_COUNT)] + [None] * (count - ITEM_COUNT) for name in before}
    for position, row in enumerate(changes.rows.tolist()):
        for name in changes.attributes:
            values[name][row] = changes.attributes[name][position]
    attributes = Attributes.from_values(values, ATTRIBUTE_TYPES, count)
    candidate, ranking = load_candidate_network(base, CPU), load_ranking_network(base, CPU)
    assert candidate.parts is not None
    assert candidate.parts.output is not None

    def part(of: Any, row: int) -> torch.Tensor:
        total: torch.Tensor = of.base.clone()
        for code, vectors in zip(base.item_codes().parts, of.vectors, strict=True):
            found = [number for number in code.encode(attributes, np.array([row]))[0].tolist() if number]
            total += vectors[found].mean(dim=0) if found else 0
        return total

    rows = range(ITEM_COUNT, count)
    new_candidate = DeepCandidateGenerationModel.from_config(replace(candidate.config, n_items=count))
    new_candidate.load_state_dict(
        candidate.state_dict()
        | {
            "embedding.weight": torch.cat(
                [candidate.embedding.weight, *(part(candidate.parts.embedding, row)[None] for row in rows)]
            ),
            "output.weight": torch.cat(
                [candidate.item_vectors_IH, *(part(candidate.parts.output, row)[None] for row in rows)]
            ),
        }
    )
    new_ranking = DeepRankingModel.from_config(replace(ranking.config, n_items=count))
    average = ranking.embedding.weight.mean(dim=0, keepdim=True)
    new_ranking.load_state_dict(
        ranking.state_dict()
        | {"embedding.weight": torch.cat([ranking.embedding.weight, average.expand(count - ITEM_COUNT, -1)])}
    )
    releases = base.path.parent / "whole"
    release_id = write_release(
        releases,
        ReleaseContents(
            vocabulary=Vocabulary([*map(item_id, range(ITEM_COUNT)), *changes.new_item_ids]),
            candidate_network=new_candidate,
            ranking_network=new_ranking,
            popularity=np.append(base.popularity(), np.zeros(count - ITEM_COUNT, dtype=np.float32)),
            attributes=attributes,
            codes=base.item_codes(),
            sample_histories=base.golden_requests().histories,
            training={},
            figures={},
        ),
    )
    return open_release(releases / release_id)


def queries(item_count: int, excluded: list[int] | None = None) -> RetrievalQuery:
    rng = np.random.default_rng(0)
    histories = WatchHistories.from_lists([rng.integers(0, item_count, 6).tolist() for _ in range(20)])
    exclusions = RaggedRows.from_lists([excluded or []] * 20)
    return RetrievalQuery(histories=histories, counts=np.full(20, item_count, dtype=np.int32), exclusions=exclusions)


def test_a_derived_release_answers_as_one_that_was_written_whole(base: Release) -> None:
    derived, whole = beside(base, derive(base, some_changes())), written_whole(base, some_changes())
    for name in ("vocabulary.safetensors", "popularity.safetensors", "attributes.safetensors", "title_index.bin"):
        assert (derived.path / name).read_bytes() == (whole.path / name).read_bytes(), name
    query = queries(ITEM_COUNT + NEW_COUNT)
    found, expected = (Retriever.from_release(release, CPU).retrieve(query) for release in (derived, whole))
    assert found.rows.rows.tolist() == expected.rows.rows.tolist()
    np.testing.assert_allclose(found.scores, expected.scores, rtol=1e-5, atol=1e-6)
    ranking = RankingQuery(histories=query.histories, candidates=expected.rows)
    scores, expected_scores = (Ranker.from_release(release, CPU).rank(ranking) for release in (derived, whole))
    np.testing.assert_allclose(scores, expected_scores, rtol=1e-5, atol=1e-6)


def test_golden_requests_are_made_anew_and_cover_new_items(base: Release) -> None:
    derived = beside(base, derive(base, some_changes(), retire=[item_id(7)]))
    golden, before = derived.golden_requests(), base.golden_requests()
    assert len(golden.histories) == len(before.histories) + 1
    assert golden.histories[len(before.histories)].tolist() == list(range(ITEM_COUNT, ITEM_COUNT + NEW_COUNT))
    assert 7 not in golden.candidates.rows
    assert 7 not in golden.filtered_candidates.rows
    Retriever.from_release(derived, CPU).check_golden(golden)
    Ranker.from_release(derived, CPU).check_golden(golden)
    ServedCatalogue.load(derived)


def test_added_items_have_no_neighbours_yet(tmp_path: Path) -> None:
    table = NeighbourOptions(neighbour_count=5, latest_count=4, recency_decay=0.9)
    base = open_release(tmp_path / write_random_release(tmp_path, takes_new_items=True, neighbours=(table,)))
    derived = beside(base, derive(base, some_changes()))
    before, after = (load_candidate_network(release, CPU).neighbours.tables[0] for release in (base, derived))
    torch.testing.assert_close(after.rows[:ITEM_COUNT], before.rows)
    torch.testing.assert_close(after.values[:ITEM_COUNT], before.values)
    assert after.values.shape == (ITEM_COUNT + NEW_COUNT, 5)
    assert not after.values[ITEM_COUNT:].any()
    Retriever.from_release(derived, CPU).check_golden(derived.golden_requests())


def test_what_did_not_change_is_the_same_file(base: Release) -> None:
    def links(made: DerivedRelease) -> set[str]:
        derived = beside(base, made)
        return {path.name for path in derived.path.iterdir() if path.stat().st_nlink > 1}

    learned = {
        "candidate_network.safetensors", "ranking_network.safetensors", "item_codes.json", "trending.safetensors"
    }  # fmt: skip
    items = {"vocabulary.safetensors", "popularity.safetensors", "similarity.safetensors"}
    made = derive(base, some_changes())
    assert links(made) == learned
    assert made.written_bytes < sum(entry.size_bytes for entry in beside(base, made).manifest.files.values())
    only_years = changes_of([3], [], year=[1])
    assert links(derive(base, only_years)) == learned | items | {"title_index.bin"}
    assert links(derive(base, changes_of([3], [], title=["x"]))) == learned | items
    assert links(derive(base, retire=[item_id(3)])) == learned | items | {"attributes.safetensors"}


def test_a_release_derived_in_steps_is_the_one_derived_at_once(base: Release) -> None:
    """A value of a new item changes on the way, and an item that comes back."""
    first = changes_of([ITEM_COUNT, 5], ["new 0"], title=["later another", "A"], year=[1, None], genres=[["x"], []])
    second = changes_of(
        [ITEM_COUNT, 0, 299, *range(ITEM_COUNT + 1, ITEM_COUNT + NEW_COUNT)],
        NEW_IDS[1:],
        title=["New one", "B", "Title 299", "New two", "N", "Title 5"],
        year=[1991, 2001, 2002, 2015, None, 3000],
        genres=[["Comedy", "Drama"], [], ["Western"], ["Drama"], ["Western"], None],
    )
    third = changes_of([5], [], genres=[["Comedy"]])
    release = beside(base, derive(base, first, retire=[item_id(1), item_id(8)]))
    release = beside(release, derive(release, second, retire=["new 0"]))
    release = beside(release, derive(release, third, restore=[item_id(8)]))
    at_once = beside(base, derive(base, some_changes(), retire=[item_id(1)]))
    at_once = beside(at_once, derive(at_once, retire=["new 0"]))
    assert release.manifest.files == at_once.manifest.files
    assert release.manifest.added_item_count == NEW_COUNT
    assert release.manifest.retired_item_count == 2
    assert release.retired().tolist() == [1, ITEM_COUNT]


def test_new_items_and_changed_ones_are_found_in_lists(with_lists: Release) -> None:
    base = with_lists
    made = beside(base, derive(base, some_changes(), retire=[item_id(row) for row in range(100, 150)]))
    assert made.manifest.index.kind == "ivf"
    # The attributes of an added item change: so do its vector and its place in the lists.
    changed = changes_of([ITEM_COUNT], [], genres=[["Science Fiction"]])
    derived = beside(made, derive(made, changed, retire=[]))
    for release in (made, derived):
        query = queries(ITEM_COUNT + NEW_COUNT, excluded=[3, 4])
        exact = Retriever.from_release(release, CPU, exact_search=True).retrieve(query)
        lists = Retriever.from_release(release, CPU)
        assert not lists._index.exact
        found = lists.retrieve(query)
        assert found.rows.rows.tolist() == exact.rows.rows.tolist()
        assert not set(found.rows.rows.tolist()) & {3, 4, *range(100, 150)}
        assert set(found.rows.rows.tolist()) >= set(range(ITEM_COUNT, ITEM_COUNT + NEW_COUNT))
        lists.check_golden(release.golden_requests())


def test_lists_stay_the_same_file_while_no_vector_changes(with_lists: Release) -> None:
    made = beside(with_lists, derive(with_lists, changes_of([3], [], year=[1]), retire=[item_id(4)]))
    assert (made.path / INDEX_FILE).stat().st_nlink == 2
    assert 4 not in Retriever.from_release(made, CPU).retrieve(queries(ITEM_COUNT)).rows.rows


def test_retired_items_are_in_no_fallback_and_no_search_and_can_still_be_looked_up(base: Release) -> None:
    retired = [item_id(row) for row in (0, 1, 250, ITEM_COUNT - 1)]
    catalogue = ServedCatalogue.load(beside(base, derive(base, retire=retired)))
    nothing = np.empty(0, dtype=np.int32)
    popular = catalogue.popular(ITEM_COUNT, nothing)
    assert popular.tolist() == [row for row in range(2, ITEM_COUNT - 1) if row != 250]
    found = [position for part in catalogue.title_index.search("title", 0, ITEM_COUNT) for position in part]
    assert catalogue.popular_rows[found].tolist() == popular.tolist()
    assert not [part for part in catalogue.title_index.search("title 250", 0, 1) if part]
    # Row 299 was the first of the trending ones.
    assert catalogue.trending_rows.tolist() == list(range(ITEM_COUNT - 14, 0, -13))
    assert catalogue.permits(np.array([0, 5, 250], dtype=np.int32), None).tolist() == [False, True, False]
    assert catalogue.is_retired(250)
    assert not catalogue.is_retired(249)
    assert catalogue.items[250].title == "Title 250"
    assert catalogue.vocabulary.rows(retired)[1] == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"retire": ["nobody"]}, "item 'nobody' is not in release"),
        ({"restore": ["nobody"]}, "item 'nobody' is not in release"),
        ({"retire": [item_id(1)], "restore": [item_id(1)]}, "is to be retired and restored at once"),
        ({"retire": [item_id(row) for row in range(ITEM_COUNT)]}, "nothing would be left to recommend"),
    ],
)
def test_what_makes_no_sense_is_refused_and_leaves_nothing(
    base: Release, arguments: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        derive(base, **arguments)
    assert {path.name for path in base.path.parent.iterdir()} == {base.release_id, "CURRENT"}


def test_a_release_without_attribute_parts_takes_no_new_items(tmp_path: Path) -> None:
    plain = open_release(tmp_path / write_random_release(tmp_path))
    with pytest.raises(ValueError, match="was trained without --new-items-by"):
        derive(plain, some_changes())
    assert {path.name for path in tmp_path.iterdir()} == {plain.release_id, "CURRENT"}
    assert derive(plain, changes_of([1], [], year=[3]), retire=[item_id(9)]).retired_item_count == 1


def test_current_moves_only_when_asked(base: Release) -> None:
    releases = base.path.parent
    derive(base, retire=[item_id(1)])
    assert current_release_id(releases) == base.release_id
    made = derive(base, retire=[item_id(2)], make_current=True)
    assert current_release_id(releases) == made.release_id
    assert beside(base, made).manifest.derived_from == base.release_id


def test_what_became_current_in_the_meantime_is_not_replaced(base: Release, monkeypatch: pytest.MonkeyPatch) -> None:
    """A training that ends while items are being changed must not be undone by it."""
    releases = base.path.parent
    other = write_random_release(releases, seed=3, takes_new_items=True)
    point_current_at(releases, base.release_id)
    plain = derive_release.__globals__["golden_requests"]

    def golden(*arguments: Any) -> Any:
        point_current_at(releases, other)
        return plain(*arguments)

    monkeypatch.setattr("winnow.release.models.derivation.golden_requests", golden)
    with pytest.raises(ValueError, match=f"{other} has become current in the meantime"):
        derive(base, retire=[item_id(2)], make_current=True, while_base_is_current=True)
    assert current_release_id(releases) == other
    assert {path.name for path in releases.iterdir()} == {base.release_id, other, "CURRENT"}


@pytest.mark.parametrize("step", ["_write_catalogue", "_golden", "_link_the_rest"])
def test_an_interruption_leaves_current_alone_and_nothing_behind(
    base: Release, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(f"winnow.release.models.derivation._Derivation.{step}", interrupt)
    with pytest.raises(KeyboardInterrupt):
        derive(base, some_changes(), make_current=True)
    assert {path.name for path in base.path.parent.iterdir()} == {base.release_id, "CURRENT"}
    assert current_release_id(base.path.parent) == base.release_id


KILLED = """
import os, signal, sys
from pathlib import Path
from winnow.commands.items import items
from winnow.release.models.derivation import _Derivation

_Derivation._link_the_rest = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
items(releases=Path(sys.argv[1]), retire=[sys.argv[2]], publish=True)
"""


def test_a_process_that_is_killed_leaves_current_alone_and_its_rest_is_removed_later(base: Release) -> None:
    releases = base.path.parent
    command = [sys.executable, "-c", KILLED, str(releases), item_id(3)]
    assert subprocess.run(command, check=False, timeout=120).returncode == -signal.SIGKILL
    assert current_release_id(releases) == base.release_id
    [left] = releases.glob(".writing-*")
    for path in (*left.iterdir(), left):
        os.utime(path, times=(0, 0))
    made = derive(base, retire=[item_id(3)], make_current=True)
    assert {path.name for path in releases.iterdir()} == {base.release_id, made.release_id, "CURRENT"}


@pytest.mark.parametrize("free_kib", [0, 4, 16, 32])
def test_a_full_disk_is_named_and_left_as_it_was(tmp_path: Path, free_kib: int) -> None:
    with small_disk(tmp_path, 400):
        base = open_release(tmp_path / write_random_release(tmp_path, takes_new_items=True))
        space = os.statvfs(tmp_path)
        filler = max(0, space.f_bavail * space.f_frsize - free_kib * 1024)
        (tmp_path / "filler").write_bytes(b"x" * filler)
        before = {path.name for path in tmp_path.iterdir()}
        with pytest.raises(OSError, match=r"No space left on device") as failure:
            derive(base, some_changes(), make_current=True)
        assert str(tmp_path) in str(failure.value)
        assert {path.name for path in tmp_path.iterdir()} == before
        assert current_release_id(tmp_path) == base.release_id


def test_without_hard_links_files_are_copied(base: Release, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr("os.link", refuse)
    derived = beside(base, derive(base, some_changes()))
    assert (derived.path / "candidate_network.safetensors").stat().st_nlink == 1
    Retriever.from_release(derived, CPU).check_golden(derived.golden_requests())


@pytest.mark.parametrize(
    ("rows", "reason"),
    [
        ({"embedding.weight": torch.zeros(NEW_COUNT, 12), "surprise": torch.zeros(NEW_COUNT)}, "surprise cannot take"),
        ({"embedding.weight": torch.zeros(NEW_COUNT, 12, dtype=torch.float16)}, "embedding.weight cannot take"),
        ({"embedding.weight": torch.zeros(NEW_COUNT, 11)}, "Sizes of tensors must match"),
        ({"embedding.weight": torch.zeros(NEW_COUNT - 1, 12)}, "size mismatch for embedding.weight"),
        ({"embedding.weight": torch.full((NEW_COUNT, 12), torch.nan)}, "holds a value that is not finite"),
    ],
)
def test_added_rows_that_do_not_fit_are_refused(base: Release, rows: dict[str, torch.Tensor], reason: str) -> None:
    derived = beside(base, derive(base, some_changes()))
    save_file(rows, derived.path / "ranking_network_added.safetensors")
    with pytest.raises(ReleaseError, match=rf"(?s)ranking_network\.safetensors: .*{reason}"):
        load_ranking_network(open_release(reseal(derived.path)), CPU)


@pytest.mark.parametrize(
    "rows", [np.array([3, 2]), np.array([2, 2]), np.array([-1, 2]), np.array([2, 5000]), np.array([2])]
)
def test_retired_rows_that_make_no_sense_are_refused(base: Release, rows: np.ndarray) -> None:
    derived = beside(base, derive(base, retire=[item_id(1), item_id(2)]))
    save_file({"rows": torch.from_numpy(rows.astype(np.int32))}, derived.path / "retired.safetensors")
    with pytest.raises(ReleaseError, match=r"retired\.safetensors cannot be read: the rows"):
        open_release(reseal(derived.path)).retired()


def test_memory_is_checked_for_the_tables_that_are_put_together(base: Release) -> None:
    name = "candidate_network.safetensors"
    derived = beside(base, derive(base, some_changes()))
    assert appended_bytes(base.manifest, name) == 0
    assert appended_bytes(derived.manifest, name) == derived.manifest.files[name].size_bytes
