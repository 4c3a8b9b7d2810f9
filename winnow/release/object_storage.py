"""Fetching a release from object storage into a directory of releases, where services find it.

The storage is laid out as the directory is: CURRENT, and one folder a release. Nothing in it is trusted: sizes are
bounded by the manifest, and the release takes its place only when its hashes are right.
"""

import hashlib
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from obstore.exceptions import BaseError
from obstore.store import ObjectStore, S3Store

from winnow.release.experiment import read_experiment
from winnow.release.manifest import CURRENT_FILE, MANIFEST_FILE, RELEASE_ID_PATTERN, FileEntry
from winnow.release.publication import link, new_release, point_current_at, publish_copy
from winnow.release.reader import ReleaseError, current_release_id, describe_file, open_release, read_manifest

# One request's share of a file: repeated by the client where it fails, and far below its timeout of 30 seconds.
RANGE_BYTES = 8 * 1024 * 1024
MAX_POINTER_BYTES = 1024
MAX_MANIFEST_BYTES = 16 * 1024 * 1024
FILE_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,127}")
# Where the client looks for an address of the storage. It ends the process where one is no address.
ENDPOINT_VARIABLES = ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_ENDPOINT")


@dataclass(frozen=True, kw_only=True)
class Fetched:
    """What has been fetched."""

    release_id: str
    downloaded_bytes: int
    """Files that another release in the directory has are not fetched again."""


def open_storage(url: str) -> ObjectStore:
    """Return the storage at `s3://bucket/prefix`, configured by the usual AWS_ variables. Raises ValueError."""
    # Not quoted: addresses may hold passwords.
    if not url.startswith("s3://") or not url.removeprefix("s3://").strip("/"):
        raise ValueError("the address of the storage is not s3://BUCKET/PREFIX")
    for name in ENDPOINT_VARIABLES:
        if name in os.environ and not _is_http_address(os.environ[name]):
            raise ValueError(f"{name} is no http:// or https:// address")
    with _one_kind_of_error():
        return S3Store.from_url(url)


def fetch_current_release(storage: ObjectStore, releases: Path) -> Fetched | None:
    """Make the storage's current release that of the directory. Return None where it is already.

    A release of the directory that is damaged is fetched again. Raises ReleaseError where there is none or it is not
    what its manifest says, OSError where it cannot be written. The directory is as it was then.
    """
    release_id = _current_id(storage)
    if _is_whole(releases / release_id):
        if _current_id_of(releases) == release_id:
            return None
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
            if not _link_held(held.get(entry), target, entry):
                _download(storage, f"{release_id}/{name}", target, entry, release_id)
                downloaded_bytes += entry.size_bytes
        # Another process may have fetched it meanwhile.
        if not _is_whole(releases / release_id):
            _remove(releases / release_id)
        publish_copy(directory, releases, release_id)
    return Fetched(release_id=release_id, downloaded_bytes=downloaded_bytes)


def remove_old_releases(releases: Path, keep_count: int) -> list[str]:
    """Remove all releases of the directory but its current one and the latest, `keep_count` in all. Return their ids.

    Those of an experiment stay, too. Services hold copies of what they serve, but may be started anew. Raises
    ReleaseError or ExperimentError where it cannot be known which ones are in use: then nothing is removed.
    """
    current = current_release_id(releases)
    experiment = read_experiment(releases)
    in_use = {current} if experiment is None else {current, *experiment.release_ids}
    others = sorted((path.parent.name for path in releases.glob(f"[!.]*/{MANIFEST_FILE}")), reverse=True)
    removed = [release_id for release_id in others if release_id != current][keep_count - 1 :]
    removed = [release_id for release_id in removed if release_id not in in_use]
    for release_id in removed:
        _remove(releases / release_id)
    return removed


def _remove(release: Path) -> None:
    # The manifest goes first: without it the rest is no release.
    (release / MANIFEST_FILE).unlink(missing_ok=True)
    with suppress(FileNotFoundError):
        shutil.rmtree(release)


def _is_whole(release: Path) -> bool:
    """Whether all files are there, in the size that the manifest says."""
    try:
        open_release(release, frozenset())
    except ReleaseError:
        return False
    return True


def _is_http_address(text: str) -> bool:
    try:
        parts = urlsplit(text)
    except ValueError:
        return False
    return parts.scheme in ("http", "https") and bool(parts.hostname) and not re.search(r"\s", text)


def _current_id_of(releases: Path) -> str | None:
    try:
        return current_release_id(releases)
    except ReleaseError:
        return None


def _current_id(storage: ObjectStore) -> str:
    name = _read(storage, CURRENT_FILE, MAX_POINTER_BYTES).decode(errors="replace").strip()
    # As strict as the manifest is: the id becomes a path here and in the storage.
    if not re.fullmatch(RELEASE_ID_PATTERN, name):
        raise ReleaseError(f"{CURRENT_FILE} of the storage does not name a release: {name[:80]!r}")
    return name


def _checked_name(release_id: str, name: str) -> str:
    if not FILE_NAME.fullmatch(name) or name == MANIFEST_FILE:
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


def _link_held(found: Path | None, target: Path, entry: FileEntry) -> bool:
    """Whether a file of another release has become `target`. One that is damaged has not."""
    if found is None:
        return False
    link(found, target)
    if describe_file(target) == entry:
        return True
    target.unlink()
    return False


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
    if digest.hexdigest() != entry.sha256:
        raise ReleaseError(f"release {release_id}: {target.name} is damaged: its SHA-256 is not the manifest's")


@contextmanager
def _one_kind_of_error() -> Iterator[None]:
    try:
        yield
    except (BaseError, FileNotFoundError) as error:
        # The further lines are the client's own structures.
        first, *_ = str(error).splitlines() or [type(error).__name__]
        raise ReleaseError(f"the storage has no answer: {without_secrets(first)}") from None


def without_secrets(text: str) -> str:
    """Leave out of the addresses in a text what may be a password or a signature: user names and queries."""
    return re.sub(r"//[^/\s]*@", "//", re.sub(r"\?\S*", "", text))
