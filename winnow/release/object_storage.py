"""Fetching a release from object storage into a directory of releases, where services find it.

The storage is laid out as the directory is: CURRENT, and one folder a release. Nothing in it is trusted: sizes are
bounded by the manifest, and the release takes its place only when its hashes are right.
"""

import hashlib
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from obstore.exceptions import BaseError
from obstore.store import ObjectStore, S3Store

from winnow.release.manifest import CURRENT_FILE, MANIFEST_FILE, RELEASE_ID_PATTERN, FileEntry
from winnow.release.publication import link, new_release, point_current_at, publish_copy
from winnow.release.reader import ReleaseError, current_release_id, describe_file, open_release, read_manifest

# One request's share of a file: repeated by the client where it fails, and far below its timeout of 30 seconds.
RANGE_BYTES = 8 * 1024 * 1024
MAX_POINTER_BYTES = 1024
MAX_MANIFEST_BYTES = 16 * 1024 * 1024


@dataclass(frozen=True, kw_only=True)
class Fetched:
    """What has been fetched."""

    release_id: str
    downloaded_bytes: int
    """Files that another release in the directory has are not fetched again."""


def open_storage(url: str) -> ObjectStore:
    """Return the storage at `s3://bucket/prefix`, configured by the usual AWS_ variables. Raises ValueError."""
    if not url.startswith("s3://") or not url.removeprefix("s3://").strip("/"):
        raise ValueError(f"{url!r} is not s3://BUCKET/PREFIX")
    with _one_kind_of_error():
        return S3Store.from_url(url)


def fetch_current_release(storage: ObjectStore, releases: Path) -> Fetched | None:
    """Make the storage's current release that of the directory. Return None where it is already.

    Raises ReleaseError where there is none or it is not what its manifest says, OSError where it cannot be written.
    The directory is as it was then.
    """
    release_id = _current_id(storage)
    if (releases / CURRENT_FILE).exists() and current_release_id(releases) == release_id:
        open_release(releases / release_id, frozenset())
        return None
    if (releases / release_id).exists():
        open_release(releases / release_id, frozenset())
        point_current_at(releases, release_id)
        return Fetched(release_id=release_id, downloaded_bytes=0)
    with new_release(releases) as temporary:
        # The manifest names its release, which has to be the directory's name.
        directory = temporary / release_id
        directory.mkdir()
        (directory / MANIFEST_FILE).write_bytes(_read(storage, f"{release_id}/{MANIFEST_FILE}", MAX_MANIFEST_BYTES))
        manifest = read_manifest(directory)
        held = _held_files(releases)
        downloaded_bytes = 0
        for name, entry in manifest.files.items():
            target = directory / _checked_name(release_id, name)
            if (found := held.get(entry)) is not None:
                link(found, target)
                _check(target, describe_file(target).sha256, entry, release_id)
            else:
                _download(storage, f"{release_id}/{name}", target, entry, release_id)
                downloaded_bytes += entry.size_bytes
        publish_copy(directory, releases, release_id)
    return Fetched(release_id=release_id, downloaded_bytes=downloaded_bytes)


def remove_old_releases(releases: Path, keep_count: int) -> list[str]:
    """Remove all releases of the directory but its current one and the latest, `keep_count` in all. Return their ids.

    Services hold copies of what they serve.
    """
    current = current_release_id(releases)
    others = sorted((path.parent.name for path in releases.glob(f"[!.]*/{MANIFEST_FILE}")), reverse=True)
    removed = [release_id for release_id in others if release_id != current][keep_count - 1 :]
    for release_id in removed:
        # The manifest goes first: without it the rest is no release.
        (releases / release_id / MANIFEST_FILE).unlink()
        shutil.rmtree(releases / release_id)
    return removed


def _current_id(storage: ObjectStore) -> str:
    name = _read(storage, CURRENT_FILE, MAX_POINTER_BYTES).decode(errors="replace").strip()
    # As strict as the manifest is: the id becomes a path here and in the storage.
    if not re.fullmatch(RELEASE_ID_PATTERN, name):
        raise ReleaseError(f"{CURRENT_FILE} of the storage does not name a release: {name[:80]!r}")
    return name


def _checked_name(release_id: str, name: str) -> str:
    if PurePosixPath(name).name != name or name in (MANIFEST_FILE, "..", "."):
        raise ReleaseError(f"release {release_id}: {name[:80]!r} is not the name of a file")
    return name


def _held_files(releases: Path) -> dict[FileEntry, Path]:
    """Return files of other releases, by what their manifests say of them."""
    held = {}
    for path in releases.glob(f"[!.]*/{MANIFEST_FILE}"):
        try:
            files = read_manifest(path.parent).files
        except ReleaseError:
            continue  # damaged ones are of no use here, and refused by whoever serves them
        held.update({entry: path.parent / name for name, entry in files.items() if (path.parent / name).is_file()})
    return held


def _read(storage: ObjectStore, path: str, most_bytes: int) -> bytes:
    with _one_kind_of_error():
        content = bytes(storage.get_range(path, start=0, end=most_bytes + 1))
    if len(content) > most_bytes:
        raise ReleaseError(f"{path} of the storage is longer than {most_bytes:,} bytes")
    return content


def _download(storage: ObjectStore, path: str, target: Path, entry: FileEntry, release_id: str) -> None:
    digest = hashlib.sha256()
    with target.open("xb") as file:
        for start in range(0, entry.size_bytes, RANGE_BYTES):
            end = min(start + RANGE_BYTES, entry.size_bytes)
            with _one_kind_of_error():
                content = memoryview(storage.get_range(path, start=start, end=end))
            if len(content) != end - start:
                raise ReleaseError(f"release {release_id}: {path} ends after {start + len(content):,} bytes")
            digest.update(content)
            file.write(content)
    _check(target, digest.hexdigest(), entry, release_id)


def _check(path: Path, sha256: str, entry: FileEntry, release_id: str) -> None:
    if sha256 != entry.sha256:
        raise ReleaseError(f"release {release_id}: {path.name} is damaged: its SHA-256 is not the manifest's")


@contextmanager
def _one_kind_of_error() -> Iterator[None]:
    try:
        yield
    except (BaseError, FileNotFoundError) as error:
        # The further lines are the client's own structures.
        raise ReleaseError(f"the storage has no answer: {str(error).splitlines()[0]}") from error
