from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from safetensors.numpy import save_file

from winnow.catalogue.vocabulary import MAX_ITEM_ID_BYTES, Vocabulary

item_ids = st.lists(st.text(st.characters(codec="utf-8"), min_size=1, max_size=12), unique=True, max_size=30)


@given(item_ids)
def test_rows_and_ids_are_inverse(ids: list[str]) -> None:
    vocabulary = Vocabulary(ids)
    rows, unknown_count = vocabulary.rows(ids)
    assert rows.tolist() == list(range(len(ids)))
    assert unknown_count == 0
    assert vocabulary.item_ids(rows.tolist()) == ids


@given(item_ids)
def test_saving_keeps_ids_of_any_form(tmp_path_factory: pytest.TempPathFactory, ids: list[str]) -> None:
    path = tmp_path_factory.mktemp("vocabulary") / "vocabulary.safetensors"
    Vocabulary(ids).save(path)
    loaded = Vocabulary.load(path)
    assert loaded.item_ids(range(len(loaded))) == ids


def test_unknown_ids_are_skipped_and_counted() -> None:
    rows, unknown_count = Vocabulary(["a", "b"]).rows(["b", "x", "a", "y", "b"])
    assert rows.tolist() == [1, 0, 1]
    assert unknown_count == 2


def test_known_ids_have_the_places_that_they_have_in_the_list() -> None:
    vocabulary = Vocabulary(["a", "b", "c"])
    for item_ids, rows, places in [
        (["c", "x", "a", "c", "y"], [2, 0, 2], [1, 3, 4]),
        (["b", "a"], [1, 0], [1, 2]),
        (["x"], [], []),
        ([], [], []),
    ]:
        found, at = vocabulary.rows_and_places(item_ids)
        assert (found.tolist(), at.tolist()) == (rows, places)
        assert found.dtype == np.int32
        assert at.dtype == np.int32


def test_an_id_that_occurs_twice_is_named() -> None:
    with pytest.raises(ValueError, match="'a' occurs twice"):
        Vocabulary(["a", "b", "a"])


def test_ids_that_no_request_may_hold_are_refused(tmp_path: Path) -> None:
    longest = "é" * (MAX_ITEM_ID_BYTES // 2)
    Vocabulary(["x" * MAX_ITEM_ID_BYTES, longest]).save(tmp_path / "vocabulary.safetensors")
    assert len(Vocabulary.load(tmp_path / "vocabulary.safetensors")) == 2
    for item_id in ("", "x" * (MAX_ITEM_ID_BYTES + 1), longest + "é"):
        with pytest.raises(ValueError, match="is not 1 to 512 bytes long"):
            Vocabulary(["a", item_id])


def test_ends_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "vocabulary.safetensors"
    save_file({"utf8": np.frombuffer(b"abc", dtype=np.uint8), "ends": np.array([2, 1])}, path)
    with pytest.raises(ValueError, match="do not fit"):
        Vocabulary.load(path)


@given(st.lists(st.sampled_from("abcdefgh"), unique=True), st.lists(st.sampled_from("abcdefgh"), unique=True))
def test_rows_in_another_vocabulary_are_those_of_the_same_ids(ours: list[str], theirs: list[str]) -> None:
    rows = Vocabulary(ours).rows_in(Vocabulary(theirs))
    assert rows.dtype == np.int32
    assert rows.tolist() == [theirs.index(item_id) if item_id in theirs else -1 for item_id in ours]
