"""A release is fetched whole and right, or not at all, and the directory stays as it was."""

import json
import shutil
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest
from obstore.store import LocalStore

from tests.releases import reseal, write_random_release
from winnow.release.experiment import EXPERIMENT_FILE, Arm, ExperimentError, new_experiment, write_experiment
from winnow.release.manifest import CURRENT_FILE, MANIFEST_FILE, FileEntry
from winnow.release.object_storage import fetch_current_release, open_storage, remove_old_releases, without_secrets
from winnow.release.publication import point_current_at
from winnow.release.reader import ReleaseError, current_release_id, digest_of_files, open_release


@pytest.fixture
def bucket(tmp_path: Path) -> Path:
    directory = tmp_path / "bucket"
    write_random_release(directory)
    return directory


@pytest.fixture
def storage(bucket: Path) -> LocalStore:
    return LocalStore(bucket)


@pytest.fixture
def releases(tmp_path: Path) -> Path:
    return tmp_path / "releases"


def names(releases: Path) -> set[str]:
    return {path.name for path in releases.iterdir()}


def test_the_current_release_is_fetched_and_made_current(storage: LocalStore, bucket: Path, releases: Path) -> None:
    fetched = fetch_current_release(storage, releases)
    assert fetched is not None
    assert fetched.release_id == current_release_id(bucket) == current_release_id(releases)
    opened = open_release(releases / fetched.release_id)
    assert fetched.downloaded_bytes == sum(entry.size_bytes for entry in opened.manifest.files.values())
    assert names(releases) == {CURRENT_FILE, fetched.release_id}


def test_nothing_is_fetched_again(storage: LocalStore, bucket: Path, releases: Path) -> None:
    first = fetch_current_release(storage, releases)
    assert first is not None
    assert fetch_current_release(storage, releases) is None
    second = write_random_release(bucket, seed=1)
    fetched = fetch_current_release(storage, releases)
    assert fetched is not None
    assert 0 < fetched.downloaded_bytes < first.downloaded_bytes, "both have the same vocabulary and attributes"
    open_release(releases / second)
    # Back to the first, which is there still.
    point_current_at(bucket, first.release_id)
    rolled_back = fetch_current_release(storage, releases)
    assert rolled_back is not None
    assert rolled_back.downloaded_bytes == 0
    assert current_release_id(releases) == first.release_id


def damage_a_file(release: Path) -> None:
    file = release / "vocabulary.safetensors"
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)


def truncate_a_file(release: Path) -> None:
    file = release / "popularity.safetensors"
    file.write_bytes(file.read_bytes()[:-1])


def remove_a_file(release: Path) -> None:
    (release / "popularity.safetensors").unlink()


def change_the_list_of_files(release: Path) -> None:
    manifest = json.loads((release / MANIFEST_FILE).read_text())
    del manifest["files"]["popularity.safetensors"]
    (release / MANIFEST_FILE).write_text(json.dumps(manifest))


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (damage_a_file, "SHA-256"),
        (truncate_a_file, "ends after"),
        (remove_a_file, "has no answer"),
        (change_the_list_of_files, "list of files"),
    ],
)
def test_a_damaged_release_leaves_everything_as_it_was(
    storage: LocalStore, bucket: Path, releases: Path, damage: Callable[[Path], None], reason: str
) -> None:
    first = fetch_current_release(storage, releases)
    assert first is not None
    before = names(releases)
    # Of other sizes than the first: no file is there already.
    damage(bucket / write_random_release(bucket, seed=1, item_count=200))
    with pytest.raises(ReleaseError, match=reason):
        fetch_current_release(storage, releases)
    assert names(releases) == before
    assert current_release_id(releases) == first.release_id


@pytest.mark.parametrize("name", ["../escaped", "/tmp/escaped", "a/b", "manifest.json", "..", "", "a\0b", "a\nb"])  # noqa: S108
def test_a_file_outside_of_the_release_is_refused(storage: LocalStore, bucket: Path, releases: Path, name: str) -> None:
    release = bucket / current_release_id(bucket)
    manifest = json.loads((release / MANIFEST_FILE).read_text())
    sealed = resealed_with(release, manifest, name)
    point_current_at(bucket, sealed)
    with pytest.raises(ReleaseError, match="is not the name of a file"):
        fetch_current_release(storage, releases)
    assert not (releases.parent / "escaped").exists()
    assert names(releases) == set()


def resealed_with(release: Path, manifest: dict[str, dict[str, object]], name: str) -> str:
    """A manifest that is right about everything, but names a file elsewhere."""
    files = manifest["files"]
    files[name] = files["popularity.safetensors"]
    entries = {each: FileEntry.model_validate(entry) for each, entry in files.items()}
    release_id = f"{release.name[:17]}{digest_of_files(entries)}"
    target = release.rename(release.parent / release_id)
    (target / MANIFEST_FILE).write_text(json.dumps({**manifest, "release_id": release_id}))
    return release_id


@pytest.mark.parametrize("pointer", ["", "../elsewhere", "no-release", "20250101T000000Z-0123456789ab/..", "x" * 5000])
def test_a_pointer_that_names_no_release_is_refused(
    storage: LocalStore, bucket: Path, releases: Path, pointer: str
) -> None:
    (bucket / CURRENT_FILE).write_text(pointer)
    with pytest.raises(ReleaseError):
        fetch_current_release(storage, releases)
    assert not releases.exists()


def test_old_releases_are_removed_but_never_the_current_one(bucket: Path) -> None:
    first = current_release_id(bucket)
    others = [reseal(bucket / write_random_release(bucket, seed=seed)).name for seed in (1, 2, 3)]
    point_current_at(bucket, first)
    removed = remove_old_releases(bucket, keep_count=2)
    assert first not in removed
    assert len(removed) == 2
    assert names(bucket) == {CURRENT_FILE, first, *(set(others) - set(removed))}
    assert remove_old_releases(bucket, keep_count=2) == []


def test_releases_of_an_experiment_are_not_removed(bucket: Path) -> None:
    first = current_release_id(bucket)
    arm = write_random_release(bucket, seed=1)
    old = write_random_release(bucket, seed=2)
    point_current_at(bucket, first)
    arms = (Arm(name="b", release_id=arm, share=0.1),)
    write_experiment(bucket, new_experiment("trial", arms, first, datetime.now(UTC)))
    assert remove_old_releases(bucket, keep_count=1) == [old]
    (bucket / EXPERIMENT_FILE).write_text("{")
    with pytest.raises(ExperimentError):
        remove_old_releases(bucket, keep_count=1)


def remove_the_manifest(release: Path) -> None:
    """As where a process was killed while it removed the release."""
    (release / MANIFEST_FILE).unlink()


def remove_all(release: Path) -> None:
    shutil.rmtree(release)


@pytest.mark.parametrize("damage", [truncate_a_file, remove_a_file, remove_the_manifest, remove_all])
def test_a_release_that_is_damaged_here_is_fetched_again(
    storage: LocalStore, releases: Path, damage: Callable[[Path], None]
) -> None:
    first = fetch_current_release(storage, releases)
    assert first is not None
    damage(releases / first.release_id)
    again = fetch_current_release(storage, releases)
    assert again is not None
    assert again.release_id == first.release_id
    open_release(releases / first.release_id)
    assert names(releases) == {CURRENT_FILE, first.release_id}


def test_a_file_that_is_damaged_here_is_not_taken_over(storage: LocalStore, bucket: Path, releases: Path) -> None:
    first = fetch_current_release(storage, releases)
    assert first is not None
    second = write_random_release(bucket, seed=1)
    # Both have this file.
    damage_a_file(releases / first.release_id)
    assert fetch_current_release(storage, releases) is not None
    open_release(releases / second)


def test_messages_hold_no_password_and_no_signature() -> None:
    text = "Error performing GET http://user:secret@storage:9000/bucket/CURRENT?X-Amz-Signature=secret in 1 s"
    assert without_secrets(text) == "Error performing GET http://storage:9000/bucket/CURRENT in 1 s"
    with pytest.raises(ValueError, match="is not s3://BUCKET/PREFIX") as refused:
        open_storage("https://user:secret@storage/releases")
    assert "secret" not in str(refused.value)


@pytest.mark.parametrize("address", ["", "storage:9000", "not an address", "http://", "http://a b/"])
def test_an_endpoint_that_is_no_address_is_refused(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", address)
    with pytest.raises(ValueError, match="AWS_ENDPOINT_URL is no http"):
        open_storage("s3://bucket/releases")


@pytest.mark.parametrize("url", ["", "releases", "s3://", "s3:///", "https://storage/releases"])
def test_only_s3_addresses_are_taken(url: str) -> None:
    with pytest.raises(ValueError, match="is not s3://BUCKET/PREFIX"):
        open_storage(url)
