from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import winnow.catalogue.title_index
from winnow.catalogue.title_index import TitleIndex, indexed_titles


def index(directory: Path, titles: Sequence[str], order: Sequence[int] | None = None) -> TitleIndex:
    path = directory / "titles"
    rows = np.array(range(len(titles)) if order is None else order, np.int32)
    path.write_bytes(b"".join(indexed_titles(titles, rows)))
    return TitleIndex(path, len(titles))


def found(made: TitleIndex, text: str, start: int = 0, limit: int = 100) -> list[int]:
    return [position for positions in made.search(text, start, limit) for position in positions]


TITLES = ["Toy Story", "STORY of Straße", "", "Other", "A toy", "toytoytoy"]


def test_positions_are_those_of_the_order(tmp_path: Path) -> None:
    assert found(index(tmp_path, TITLES), "toy") == [0, 4, 5]
    assert found(index(tmp_path, TITLES, [5, 1, 4, 2, 0, 3]), "toy") == [0, 2, 4]


@pytest.mark.parametrize(
    ("text", "positions"),
    [("STORY", [0, 1]), ("strasse", [1]), ("STRASSE", [1]), ("straße", [1]), ("toy\n", []), ("ytoy", [5]), ("z", [])],
)
def test_case_does_not_matter(tmp_path: Path, text: str, positions: list[int]) -> None:
    assert found(index(tmp_path, TITLES), text) == positions


def test_a_search_begins_where_it_is_told_to_and_ends_at_its_limit(tmp_path: Path) -> None:
    made = index(tmp_path, TITLES)
    assert found(made, "o", start=1) == [1, 3, 4, 5]
    assert found(made, "o", start=1, limit=2) == [1, 3]
    assert found(made, "o", limit=0) == []
    assert found(made, "o", start=6) == []


def test_no_match_spans_two_titles(tmp_path: Path) -> None:
    made = index(tmp_path, ["ab", "cd"])
    for text in ("bc", "b\nc", "b\0c", "b\u00ffc"):
        assert found(made, text) == []


def test_text_that_is_no_unicode_is_found(tmp_path: Path) -> None:
    assert found(index(tmp_path, ["a", "b\ud800"]), "B\ud800") == [1]


def test_a_search_is_cut_into_slices_of_whole_titles(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(winnow.catalogue.title_index, "SLICE_BYTES", 8)
    made = index(tmp_path, ["toy 1", "toy 2", "a title longer than a slice, toy", "", "toy 3"])
    assert list(made.search("toy", 0, 10)) == [[0], [1], [2], [4]]
    assert list(made.search("toy", 0, 2)) == [[0], [1]]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=300)
@given(
    titles=st.lists(st.text("aAbBßéÉ İ", max_size=8), min_size=1, max_size=30),
    text=st.text("aAbBßéÉ İ", min_size=1, max_size=3),
    start=st.integers(0, 30),
    limit=st.integers(1, 10),
    slice_bytes=st.integers(1, 60),
)
def test_it_finds_what_looking_at_every_title_finds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, titles: list[str], text: str, start: int, limit: int,
    slice_bytes: int,
) -> None:  # fmt: skip
    monkeypatch.setattr(winnow.catalogue.title_index, "SLICE_BYTES", slice_bytes)
    matching = [n for n, title in enumerate(titles) if text.casefold() in title.casefold() and n >= start]
    assert found(index(tmp_path, titles), text, start, limit) == matching[:limit]
