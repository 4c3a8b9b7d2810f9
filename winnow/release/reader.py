"""Opening a release: everything is checked against the manifest before a byte of it is interpreted."""

import hashlib
from collections.abc import Callable, Mapping, Set
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError
from safetensors import SafetensorError
from safetensors.numpy import load_file

from winnow.catalogue.items import ItemCatalogue
from winnow.catalogue.title_index import TitleIndex
from winnow.catalogue.vocabulary import Vocabulary
from winnow.history import Rows
from winnow.release.golden import GoldenRequests
from winnow.release.manifest import (
    CURRENT_FILE,
    GOLDEN_FILE,
    ITEMS_FILE,
    MANIFEST_FILE,
    POPULARITY_FILE,
    TITLE_INDEX_FILE,
    VOCABULARY_FILE,
    FileEntry,
    Manifest,
)

T = TypeVar("T")


class ReleaseError(ValueError):
    """A release cannot be used; the message says which one and why."""


@dataclass(frozen=True, kw_only=True)
class Release:
    """A release whose files have been verified: all of them, or those that were asked for."""

    path: Path
    manifest: Manifest
    verified: frozenset[str]
    """Names of files."""

    @property
    def release_id(self) -> str:
        """The id that pins every request to this release."""
        return self.manifest.release_id

    def vocabulary(self) -> Vocabulary:
        """Item id <-> row. Raises ReleaseError where it does not fit the manifest."""
        vocabulary = self._read(VOCABULARY_FILE, Vocabulary.load)
        if len(vocabulary) != self.manifest.item_count:
            raise self._error(f"{VOCABULARY_FILE} has {len(vocabulary)} items, not {self.manifest.item_count}")
        return vocabulary

    def popularity(self) -> NDArray[np.float32]:
        """Each item's share of all watches, by row, [item_count]. Raises ReleaseError where it is not that."""

        def load(path: Path) -> NDArray[np.float32]:
            return check_popularity(load_file(path)["popularity"], self.manifest.item_count)

        return self._read(POPULARITY_FILE, load)

    def items(self) -> ItemCatalogue:
        """Titles and further columns, by row."""
        return self._read(ITEMS_FILE, lambda path: ItemCatalogue(path, self.manifest.item_count))

    def title_index(self) -> TitleIndex:
        """Titles to search, the most popular first."""
        return self._read(TITLE_INDEX_FILE, lambda path: TitleIndex(path, self.manifest.item_count))

    def golden_requests(self) -> GoldenRequests:
        """Requests with the answers they had when the release was made."""
        return self._read(GOLDEN_FILE, GoldenRequests.load)

    def file(self, name: str) -> Path:
        """Where a verified file is. Raises ReleaseError for one that is not part of the release.

        Raises AssertionError for one that has not been verified: nothing is read that was not.
        """
        if name not in self.manifest.files:
            raise self._error(f"{name} is missing")
        if name not in self.verified:
            raise AssertionError(f"{name} has not been verified")
        return self.path / name

    def _read(self, name: str, load: Callable[[Path], T]) -> T:
        try:
            return load(self.file(name))
        except (KeyError, ValueError, SafetensorError) as error:
            raise self._error(f"{name} cannot be read: {error}") from error

    def _error(self, reason: str) -> ReleaseError:
        return ReleaseError(f"release {self.path.name}: {reason}")


def popular_rows(popularity: NDArray[np.float32]) -> Rows:
    """All rows, the most popular first; equal ones in the order of rows."""
    return np.argsort(-popularity, kind="stable").astype(np.int32)


def check_popularity(popularity: NDArray[np.float32], item_count: int) -> NDArray[np.float32]:
    """Return the popularity. Raises ValueError unless it is one finite number, 0 or more, for each item."""
    if popularity.shape != (item_count,):
        raise ValueError(f"popularity has the shape {popularity.shape}, not ({item_count},)")
    wrong = ~(np.isfinite(popularity) & (popularity >= 0))
    if wrong.any():
        row = int(np.argmax(wrong))
        raise ValueError(f"the popularity of row {row} is {popularity[row]}, not a finite number, 0 or more")
    return popularity


def current_release_id(releases: Path) -> str:
    """Return the id that the CURRENT pointer names. Raises ReleaseError where there is none."""
    try:
        name = (releases / CURRENT_FILE).read_text().strip()
    except OSError as error:
        raise ReleaseError(f"no release in {releases}: {CURRENT_FILE} cannot be read ({error.strerror})") from error
    if not name or "/" in name or name.startswith("."):
        raise ReleaseError(f"{releases / CURRENT_FILE} does not name a release: {name[:80]!r}")
    return name


def open_release(path: Path, files: Set[str] | None = None) -> Release:
    """Verify the release in `path`. Raises ReleaseError that says what is wrong with it.

    With `files`, the names of those that will be read, only they are hashed; of the others, existence and size are
    checked. Who reads those verifies them.
    """
    try:
        manifest = Manifest.model_validate_json((path / MANIFEST_FILE).read_bytes())
    except OSError as error:
        raise ReleaseError(f"release {path.name}: {MANIFEST_FILE} cannot be read ({error.strerror})") from error
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        where = ".".join(map(str, first["loc"])) or "the whole"
        raise ReleaseError(f"release {path.name}: {MANIFEST_FILE}, {where}: {first['msg']}") from error
    if manifest.release_id != path.name:
        raise ReleaseError(f"release {path.name}: its manifest says it is {manifest.release_id}")
    if not manifest.release_id.endswith(digest_of_files(manifest.files)):
        raise ReleaseError(f"release {path.name}: the list of files in its manifest is not the one it was made with")
    verified = frozenset(name for name in manifest.files if files is None or name in files)
    for name, entry in manifest.files.items():
        _verify_file(path, name, entry, hashed=name in verified)
    return Release(path=path, manifest=manifest, verified=verified)


def digest_of_files(files: Mapping[str, FileEntry]) -> str:
    """Hash the names and hashes of a release's files: the part of its id that follows from its content."""
    listing = "".join(f"{name} {entry.size_bytes} {entry.sha256}\n" for name, entry in sorted(files.items()))
    return hashlib.sha256(listing.encode()).hexdigest()[:12]


def describe_file(path: Path) -> FileEntry:
    """Measure and hash a file."""
    with path.open("rb") as file:
        return FileEntry(size_bytes=path.stat().st_size, sha256=hashlib.file_digest(file, "sha256").hexdigest())


def _verify_file(directory: Path, name: str, expected: FileEntry, *, hashed: bool) -> None:
    if Path(name).is_absolute() or ".." in Path(name).parts:
        raise ReleaseError(f"release {directory.name}: {name!r} lies outside of the release")
    path = directory / name
    try:
        size_bytes = path.stat().st_size
        if size_bytes != expected.size_bytes:
            raise ReleaseError(
                f"release {directory.name}: {name} has {size_bytes} bytes, the manifest says {expected.size_bytes}"
            )
        damaged = hashed and describe_file(path).sha256 != expected.sha256
    except OSError as error:
        raise ReleaseError(f"release {directory.name}: {name} cannot be read ({error.strerror})") from error
    if damaged:
        raise ReleaseError(f"release {directory.name}: {name} is damaged: its SHA-256 is not the manifest's")
