"""A release is written whole or not at all, and what is damaged is refused with a reason."""

import dataclasses
import fcntl
import json
import os
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from tests.mounts import small_disk
from tests.releases import ITEM_COUNT, item_id, reseal, trending_items, write_random_release
from winnow.index.choose import Choice, choose_index
from winnow.networks.options import RankingOptions
from winnow.release.golden import check_scores
from winnow.release.golden_filters import GoldenMismatchError
from winnow.release.models.loader import load_candidate_network, load_ranking_network
from winnow.release.models.writer import ReleaseContents, write_release
from winnow.release.publication import LEFTOVER_SECONDS
from winnow.release.reader import ReleaseError, current_release_id, open_release


@pytest.fixture
def release(tmp_path: Path) -> Path:
    return tmp_path / write_random_release(tmp_path)


def test_what_was_written_is_read(release: Path) -> None:
    opened = open_release(release)
    assert opened.vocabulary().item_ids([0, 1, 2]) == [item_id(0), item_id(1), item_id(2)]
    attributes = opened.attributes()
    assert attributes["title"][1] == "Title 1"
    assert [attributes["year"][row] for row in range(3)] == [1990, 1991, 1992]
    assert opened.popularity().shape == (ITEM_COUNT,)
    assert opened.manifest.training == {"seed": 0}
    assert current_release_id(release.parent) == release.name


def test_loaded_networks_compute_as_before(release: Path) -> None:
    from winnow.networks.candidate import DeepCandidateGenerationModel

    loaded = load_candidate_network(open_release(release), torch.device("cpu"))
    made = DeepCandidateGenerationModel(ITEM_COUNT, 12, 8, 2, seed=0)
    history = [torch.tensor([1, 2, 3])]
    assert torch.equal(loaded(history), made(history))


def test_the_manifest_says_what_a_service_without_torch_has_to_know(tmp_path: Path) -> None:
    plain = open_release(tmp_path / write_random_release(tmp_path)).manifest
    assert (plain.ranking_score, plain.ranking_reads_contexts) == ("probability", False)
    options = RankingOptions(features=("popularity", "item_unclicked"), score="watch_seconds")
    release = open_release(tmp_path / write_random_release(tmp_path, ranking=options))
    assert (release.manifest.ranking_score, release.manifest.ranking_reads_contexts) == ("watch_seconds", True)
    assert load_ranking_network(release, torch.device("cpu")).config.options == options


def test_nothing_is_left_behind_when_writing_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("winnow.release.models.writer.save_tensors", fail)
    with pytest.raises(OSError, match="No space left"):
        write_random_release(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_two_releases_stand_side_by_side_and_current_names_the_newer(tmp_path: Path) -> None:
    first, second = write_random_release(tmp_path, seed=0), write_random_release(tmp_path, seed=5)
    assert first != second
    assert current_release_id(tmp_path) == second
    open_release(tmp_path / first)


@pytest.mark.parametrize(
    "name",
    [
        "vocabulary.safetensors",
        "popularity.safetensors",
        "trending.safetensors",
        "attributes.safetensors",
        "title_index.bin",
        "candidate_network.safetensors",
        "ranking_network.safetensors",
        "golden.safetensors",
    ],
)
@pytest.mark.parametrize("damage", ["flipped", "truncated", "missing"])
def test_a_damaged_file_is_named(release: Path, name: str, damage: str) -> None:
    path = release / name
    data = bytearray(path.read_bytes())
    if damage == "missing":
        path.unlink()
    elif damage == "truncated":
        path.write_bytes(data[:-1])
    else:
        data[len(data) // 2] ^= 1
        path.write_bytes(data)
    with pytest.raises(ReleaseError, match=f"{release.name}: {name}"):
        open_release(release)


def test_only_what_was_verified_is_read(release: Path) -> None:
    path = release / "ranking_network.safetensors"
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    opened = open_release(release, {"candidate_network.safetensors", "index.faiss"})
    load_candidate_network(opened, torch.device("cpu"))
    with pytest.raises(AssertionError, match="has not been verified"):
        load_ranking_network(opened, torch.device("cpu"))
    with pytest.raises(ReleaseError, match=r"index\.faiss is missing"):
        opened.file("index.faiss")
    path.write_bytes(data[:-1])
    with pytest.raises(ReleaseError, match="bytes, the manifest says"):
        open_release(release, {"candidate_network.safetensors"})


def test_what_happens_to_a_file_after_it_was_opened_changes_nothing(release: Path) -> None:
    opened = open_release(release)
    expected = opened.golden_requests()
    candidate, ranking = (load(opened, torch.device("cpu")) for load in (load_candidate_network, load_ranking_network))
    before = [weights.clone() for network in (candidate, ranking) for weights in network.state_dict().values()]
    attributes = opened.attributes()
    for path in release.iterdir():
        with path.open("r+b") as file:  # in place, as a careless copy does
            file.write(b"\xff" * path.stat().st_size)
    after = [weights for network in (candidate, ranking) for weights in network.state_dict().values()]
    assert all(torch.equal(then, now) for then, now in zip(before, after, strict=True))
    assert attributes["title"][299] == "Title 299"
    np.testing.assert_array_equal(opened.golden_requests().ranking_scores, expected.ranking_scores)


def test_a_pipe_in_place_of_a_file_is_refused(release: Path) -> None:
    (release / "manifest.json").unlink()
    os.mkfifo(release / "manifest.json")
    with pytest.raises(ReleaseError, match=r"manifest\.json cannot be read \(not a file\)"):
        open_release(release)


def test_copies_of_files_are_freed(release: Path) -> None:
    def open_count() -> int:
        return len(list(Path("/dev/fd").iterdir()))

    before = open_count()
    opened = open_release(release)
    assert open_count() > before
    network = load_candidate_network(opened, torch.device("cpu"))
    del opened
    assert open_count() == before
    assert network.item_vectors_IH.isfinite().all()


def test_a_changed_manifest_is_refused(release: Path) -> None:
    manifest = json.loads((release / "manifest.json").read_text())
    for change, reason in [
        ({"format_version": 2}, "format_version"),
        ({"release_id": "20200101T000000Z-000000000000"}, "its manifest says it is"),
        ({"files": {}}, "not the one it was made with"),
        ({"item_count": "many"}, "item_count"),
        ({"surprise": 1}, "surprise"),
    ]:
        (release / "manifest.json").write_text(json.dumps(manifest | change))
        with pytest.raises(ReleaseError, match=reason):
            open_release(release)
    (release / "manifest.json").write_text("{")
    with pytest.raises(ReleaseError, match=r"manifest\.json"):
        open_release(release)


def test_an_invalid_option_is_refused_with_its_place(release: Path) -> None:
    def damage(manifest: dict[str, Any]) -> None:
        manifest["ranking_network"]["options"]["history"]["signed_bags"] = 2

    with pytest.raises(ReleaseError, match=r"ranking_network\.options\.history: .*signed_bags is 2"):
        open_release(reseal(release, damage))


def test_weights_of_another_shape_are_refused(release: Path) -> None:
    def widen(manifest: dict[str, Any]) -> None:
        manifest["candidate_network"]["hidden_dim"] = 16

    changed = reseal(release, widen)
    with pytest.raises(ReleaseError, match=r"(?s)candidate_network\.safetensors.*size mismatch"):
        load_candidate_network(open_release(changed), torch.device("cpu"))


def test_weights_that_are_not_finite_are_refused(release: Path) -> None:
    weights = load_file(release / "ranking_network.safetensors")
    weights["embedding.weight"][3, 2] = torch.nan
    save_file(weights, release / "ranking_network.safetensors")
    changed = reseal(release)
    with pytest.raises(ReleaseError, match=r"embedding\.weight holds a value that is not finite"):
        load_ranking_network(open_release(changed), torch.device("cpu"))


def test_weights_of_another_type_are_refused(release: Path) -> None:
    weights = load_file(release / "ranking_network.safetensors")
    weights["embedding.weight"] = weights["embedding.weight"].half()
    save_file(weights, release / "ranking_network.safetensors")
    changed = reseal(release)
    with pytest.raises(ReleaseError, match=r"embedding\.weight is of torch.float16, not of torch.float32"):
        load_ranking_network(open_release(changed), torch.device("cpu"))


@pytest.mark.parametrize("wrong", [np.nan, -0.1, np.inf])
def test_popularity_that_is_not_a_share_is_refused(release: Path, wrong: float) -> None:
    popularity = open_release(release).popularity().copy()
    popularity[3] = wrong
    save_file({"popularity": torch.from_numpy(popularity)}, release / "popularity.safetensors")
    changed = reseal(release)
    with pytest.raises(ReleaseError, match=r"popularity\.safetensors .*the popularity of row 3 is"):
        open_release(changed).popularity()


def test_popularity_of_another_length_is_refused(release: Path) -> None:
    save_file({"popularity": torch.zeros(7)}, release / "popularity.safetensors")
    changed = reseal(release)
    with pytest.raises(ReleaseError, match=r"popularity has the shape \(7,\), not \(300,\)"):
        open_release(changed).popularity()


def test_trending_items_are_in_the_release_and_those_of_another_catalogue_are_refused(release: Path) -> None:
    trending = open_release(release).trending()
    assert trending.rows.tolist() == trending_items(ITEM_COUNT).rows.tolist()
    trending_items(ITEM_COUNT + 1).save(release / "trending.safetensors")
    changed = reseal(release)
    with pytest.raises(ReleaseError, match=r"trending\.safetensors cannot be read: rows are not different rows"):
        open_release(changed).trending()


def test_popularity_that_is_not_a_share_is_not_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def write_without_popularity(releases: Path, contents: ReleaseContents) -> str:
        nothing = np.full(ITEM_COUNT, np.nan, dtype=np.float32)
        return write_release(releases, dataclasses.replace(contents, popularity=nothing))

    monkeypatch.setattr("tests.releases.write_release", write_without_popularity)
    with pytest.raises(ValueError, match="the popularity of row 0 is nan"):
        write_random_release(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_is_an_error_of_the_system(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)")

    monkeypatch.setattr("winnow.release.models.writer.save_tensors", fail)
    with pytest.raises(OSError, match=f"{tmp_path} cannot be written: .*No space left"):
        write_random_release(tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("size_kib", [4, 16, 40, 80])
def test_a_disk_that_is_really_full_is_named_and_left_as_it_was(tmp_path: Path, size_kib: int) -> None:
    """80 KiB hold the release, but not the pointer to it."""
    with small_disk(tmp_path, size_kib):
        with pytest.raises(OSError, match=r"No space left on device") as failure:
            write_random_release(tmp_path)
        assert str(tmp_path) in str(failure.value)
        assert list(tmp_path.iterdir()) == []


def test_what_a_killed_writer_has_left_is_removed_by_the_next(tmp_path: Path) -> None:
    def left(name: str, age_seconds: float) -> Path:
        directory = tmp_path / name
        directory.mkdir()
        (directory / "index.faiss").write_text("half of it")
        for path in (directory / "index.faiss", directory):
            os.utime(path, times=(time.time() - age_seconds,) * 2)
        return directory

    old, young = left(".writing-old", 1.1 * LEFTOVER_SECONDS), left(".writing-young", 0.9 * LEFTOVER_SECONDS)
    in_use, pointer = left(".writing-in-use", 1.1 * LEFTOVER_SECONDS), tmp_path / ".current-old"
    pointer.write_text("a release")
    os.utime(pointer, times=(0, 0))
    lock = os.open(in_use, os.O_RDONLY)
    fcntl.flock(lock, fcntl.LOCK_EX)
    try:
        release_id = write_random_release(tmp_path)
    finally:
        os.close(lock)
    assert {path.name for path in tmp_path.iterdir()} == {young.name, in_use.name, release_id, "CURRENT"}
    assert not old.exists()


def test_a_writer_locks_what_it_writes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    locked = []

    def look(*_: object) -> Choice:
        (directory,) = tmp_path.glob(".writing-*")
        descriptor = os.open(directory, os.O_RDONLY)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            locked.append(directory)
        finally:
            os.close(descriptor)
        return choose_index(*_)  # type: ignore[arg-type]

    monkeypatch.setattr("winnow.release.models.writer.choose_index", look)
    write_random_release(tmp_path)
    assert locked


def test_a_pickle_in_disguise_is_refused(release: Path) -> None:
    torch.save({"embedding.weight": torch.zeros(3)}, release / "ranking_network.safetensors")
    changed = reseal(release)
    with pytest.raises(ReleaseError, match=r"ranking_network\.safetensors"):
        load_ranking_network(open_release(changed), torch.device("cpu"))


def test_a_missing_or_wild_current_pointer_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ReleaseError, match="CURRENT cannot be read"):
        current_release_id(tmp_path)
    for text in ["", "../elsewhere", ".hidden"]:
        (tmp_path / "CURRENT").write_text(text)
        with pytest.raises(ReleaseError, match="does not name a release"):
            current_release_id(tmp_path)


@pytest.mark.parametrize("rows", ["history_rows", "unclicked_rows", "candidate_rows"])
def test_golden_requests_about_items_that_there_are_not_are_refused(release: Path, rows: str) -> None:
    path = release / "golden.safetensors"
    tensors = load_file(path)
    lengths = rows.replace("rows", "lengths")
    tensors[rows] = torch.tensor([ITEM_COUNT], dtype=torch.int32)
    tensors[lengths] = torch.tensor([1], dtype=tensors[lengths].dtype)
    if rows == "history_rows":
        tensors["history_weights"], tensors["history_timestamps"] = torch.ones(1), torch.ones(1, dtype=torch.int64)
    save_file(tensors, path)
    with pytest.raises(ReleaseError, match=r"golden\.safetensors cannot be read: .*\[0\]\[0\] is row 300"):
        open_release(reseal(release)).golden_requests()


def test_golden_scores_allow_rounding_and_nothing_else() -> None:
    expected = np.array([1.0, -20.0], dtype=np.float32)
    check_scores("stage", expected, expected + 1e-4)
    for wrong in [expected + 1, expected[:1], np.array([1.0, np.nan], dtype=np.float32)]:
        with pytest.raises(GoldenMismatchError, match="stage"):
            check_scores("stage", expected, wrong)
