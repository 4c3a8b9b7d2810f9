"""Opening a release: everything is checked against the manifest before a byte of it is interpreted.

What is read is a copy in memory that nobody else can reach, and it is the copy that is checked. So nothing that happens
to the files later, be it in the moment after the check, changes an answer or ends a service: a mapped file that is
truncated would.
"""

import errno
import hashlib
import json
import operator
import os
import stat
import tempfile
import weakref
from collections.abc import Callable, Mapping, Set
from dataclasses import dataclass
from io import FileIO
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError
from safetensors import SafetensorError
from safetensors.numpy import load_file

from winnow.catalogue.attribute_codes import NO_CODES, ItemCodes
from winnow.catalogue.attributes import Attributes
from winnow.catalogue.mapped_arrays import map_arrays
from winnow.catalogue.title_index import TitleIndex
from winnow.catalogue.trending import TrendingItems
from winnow.catalogue.vocabulary import Vocabulary
from winnow.history import NO_ROWS, Rows
from winnow.release.golden import GoldenRequests
from winnow.release.manifest import (
    ATTRIBUTES_FILE,
    CURRENT_FILE,
    GOLDEN_FILE,
    ITEM_CODES_FILE,
    MANIFEST_FILE,
    POPULARITY_FILE,
    RETIRED_FILE,
    SIMILARITY_FILE,
    TITLE_INDEX_FILE,
    TRENDING_FILE,
    VOCABULARY_FILE,
    FileEntry,
    Manifest,
)

T = TypeVar("T")


class Stretch(NamedTuple):
    """Some bytes of a file."""

    start: int
    stop: int


# Copied and hashed at once: what the processor's cache holds.
CHUNK_BYTES = 256 * 1024
# As in safetensors.
MAX_HEADER_BYTES = 100_000_000
NOTHING_LEFT_OUT: Mapping[str, str] = MappingProxyType({})


class ReleaseError(ValueError):
    """A release cannot be used; the message says which one and why."""


class IncompleteReleaseError(ReleaseError):
    """Files are missing or end too early: they may be on their way."""


class PrivateCopy:
    """A copy of a file in memory. It is freed when it is no longer referred to, mapped or open."""

    def __init__(self, file: FileIO, name: str, left_out: Stretch | None = None) -> None:
        """Copy and hash what is read from an open file.

        Of the stretch that is `left_out`, nothing but its ends is kept in memory: it reads as zeros.
        """
        if hasattr(os, "memfd_create"):
            self._descriptor = os.memfd_create(name)
        else:
            # Elsewhere than on Linux, a file without a name.
            with tempfile.TemporaryFile() as temporary:
                self._descriptor = os.dup(temporary.fileno())
        weakref.finalize(self, os.close, self._descriptor)
        digest = hashlib.sha256()
        chunk = memoryview(bytearray(CHUNK_BYTES))
        position = 0
        while size := file.readinto(chunk):
            digest.update(chunk[:size])
            if left_out is not None and left_out.start <= position and position + size <= left_out.stop:
                os.lseek(self._descriptor, size, os.SEEK_CUR)
            else:
                os.write(self._descriptor, chunk[:size])
            position += size
        # What was left out at the end.
        os.ftruncate(self._descriptor, position)
        self.sha256 = digest.hexdigest()

    @property
    def path(self) -> Path:
        """Where this process, and no other, can open it."""
        return Path(f"/dev/fd/{self._descriptor}")


@dataclass(frozen=True, kw_only=True)
class Release:
    """A release whose files have been verified: all of them, or those that were asked for."""

    path: Path
    manifest: Manifest
    verified: Mapping[str, PrivateCopy]
    """By the name of the file."""

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

    def trending(self) -> TrendingItems:
        """The items that were watched more of late than usual. Raises ReleaseError where the file is not that."""
        return self._read(TRENDING_FILE, lambda path: TrendingItems.load(path, self.manifest.item_count))

    def attributes(self) -> Attributes:
        """Titles and what else is known of the items, mapped. Raises ReleaseError where it is not that."""
        attributes = self._read(ATTRIBUTES_FILE, Attributes.open)
        if attributes.item_count != self.manifest.item_count:
            raise self._error(f"{ATTRIBUTES_FILE} is of {attributes.item_count} items, not {self.manifest.item_count}")
        return attributes

    def retired(self) -> Rows:
        """The rows of items that are never recommended any more, int32, ascending. Raises ReleaseError."""
        if not self.manifest.retired_item_count:
            return NO_ROWS

        def load(path: Path) -> Rows:
            return _check_retired(load_file(path)["rows"], self.manifest)

        return self._read(RETIRED_FILE, load)

    def title_index(self) -> TitleIndex:
        """Titles to search, the most popular first; those of retired items are left out."""
        count = self.manifest.item_count - self.manifest.retired_item_count
        return self._read(TITLE_INDEX_FILE, lambda path: TitleIndex(path, count))

    def item_codes(self) -> ItemCodes:
        """How the networks number the values of attributes; nothing where they have learned from none."""
        if ITEM_CODES_FILE not in self.manifest.files:
            return NO_CODES
        return self._read(ITEM_CODES_FILE, lambda path: ItemCodes.load(path.read_bytes()))

    def similarity_vectors(self) -> NDArray[np.int8]:
        """Vectors whose products say how alike two items are, [item_count, C], mapped.

        Raises ReleaseError where it is not that.
        """

        def load(path: Path) -> NDArray[np.int8]:
            _, arrays, _ = map_arrays(path)
            vectors: NDArray[np.int8] = arrays["vectors"]
            if vectors.dtype != np.int8 or vectors.ndim != 2 or len(vectors) != self.manifest.item_count:
                raise ValueError(f"vectors are {vectors.dtype} {list(vectors.shape)}")
            return vectors

        return self._read(SIMILARITY_FILE, load)

    def golden_requests(self) -> GoldenRequests:
        """Requests with the answers they had when the release was made."""
        return self._read(GOLDEN_FILE, lambda path: GoldenRequests.load(path, self.manifest.item_count))

    def file(self, name: str) -> Path:
        """Where the copy of a file is, for as long as the release is referred to.

        Raises ReleaseError for one that is not part of the release, and AssertionError for one that has not been
        verified: nothing is read that was not.
        """
        if name not in self.manifest.files:
            raise self._error(f"{name} is missing")
        if name not in self.verified:
            raise AssertionError(f"{name} has not been verified")
        return self.verified[name].path

    def _read(self, name: str, load: Callable[[Path], T]) -> T:
        try:
            return load(self.file(name))
        except (KeyError, ValueError, SafetensorError) as error:
            raise self._error(f"{name} cannot be read: {error}") from error

    def _error(self, reason: str) -> ReleaseError:
        return ReleaseError(f"release {self.path.name}: {reason}")


def popular_rows(popularity: NDArray[np.float32], retired: Rows = NO_ROWS) -> Rows:
    """All rows that are not retired, the most popular first; equal ones in the order of rows."""
    rows = np.argsort(-popularity, kind="stable").astype(np.int32)
    return rows[~np.isin(rows, retired)] if len(retired) else rows


def _check_retired(rows: NDArray[Any], manifest: Manifest) -> Rows:
    """Return the rows. Raises ValueError unless they ascend and are as many of the items as the manifest says."""
    if rows.shape != (manifest.retired_item_count,) or rows.dtype != np.int32:
        raise ValueError(f"the rows are {rows.dtype} {list(rows.shape)}, not {manifest.retired_item_count} of int32")
    if rows[0] < 0 or rows[-1] >= manifest.item_count or (np.diff(rows) <= 0).any():
        raise ValueError(f"the rows do not ascend in [0, {manifest.item_count})")
    return rows


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
        name = _read_bytes(releases / CURRENT_FILE).decode(errors="replace").strip()
    except OSError as error:
        raise ReleaseError(f"no release in {releases}: {CURRENT_FILE} cannot be read ({error.strerror})") from error
    if not name or "/" in name or name.startswith(".") or not name.isprintable():
        raise ReleaseError(f"{releases / CURRENT_FILE} does not name a release: {name[:80]!r}")
    return name


def state_of_files(path: Path) -> Set[tuple[str, int, int, int]]:
    """Return what changes when a file of the release does: name, inode, size and time of change of each."""
    try:
        stats = [(entry.name, entry.stat()) for entry in os.scandir(path)]
    except OSError:
        return frozenset()
    return frozenset((name, found.st_ino, found.st_size, found.st_mtime_ns) for name, found in stats)


def read_manifest(path: Path) -> Manifest:
    """Read the manifest of the release in `path`, without a look at other files. Raises ReleaseError."""
    try:
        manifest = Manifest.model_validate_json(_read_bytes(path / MANIFEST_FILE))
    except FileNotFoundError as error:
        raise IncompleteReleaseError(f"release {path.name}: {MANIFEST_FILE} is missing") from error
    except OSError as error:
        raise ReleaseError(f"release {path.name}: {MANIFEST_FILE} cannot be read ({error.strerror})") from error
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        where = ".".join(map(str, first["loc"])) or "the whole"
        kind = IncompleteReleaseError if first["type"] == "json_invalid" else ReleaseError
        raise kind(f"release {path.name}: {MANIFEST_FILE}, {where}: {first['msg']}") from error
    if manifest.release_id != path.name:
        raise ReleaseError(f"release {path.name}: its manifest says it is {manifest.release_id}")
    if not manifest.release_id.endswith(digest_of_files(manifest.files)):
        raise ReleaseError(f"release {path.name}: the list of files in its manifest is not the one it was made with")
    return manifest


def open_release(path: Path, files: Set[str] | None = None, left_out: Mapping[str, str] = NOTHING_LEFT_OUT) -> Release:
    """Verify the release in `path`. Raises ReleaseError that says what is wrong with it.

    With `files`, the names of those that will be read, only they are copied and hashed; of the others, existence and
    size are checked. Who reads those verifies them. `left_out` names a tensor of some files that will not be read: it
    is hashed, and takes no memory.
    """
    manifest = read_manifest(path)
    for name, entry in manifest.files.items():
        _check_size(path, name, entry)
    verified = {
        name: _verified_copy(path, name, entry, left_out.get(name))
        for name, entry in manifest.files.items()
        if files is None or name in files
    }
    return Release(path=path, manifest=manifest, verified=verified)


def open_current_release(releases: Path) -> Release:
    """Verify the release that CURRENT names. Raises ReleaseError."""
    return open_release(releases / current_release_id(releases))


def open_release_or_current(path: Path) -> Release:
    """Verify the release in `path`, or the current one where `path` is a directory of releases. Raises ReleaseError."""
    return open_current_release(path) if (path / CURRENT_FILE).is_file() else open_release(path)


def digest_of_files(files: Mapping[str, FileEntry]) -> str:
    """Hash the names and hashes of a release's files: the part of its id that follows from its content."""
    listing = "".join(f"{name} {entry.size_bytes} {entry.sha256}\n" for name, entry in sorted(files.items()))
    return hashlib.sha256(listing.encode()).hexdigest()[:12]


def describe_file(path: Path) -> FileEntry:
    """Measure and hash a file."""
    with path.open("rb") as file:
        return FileEntry(size_bytes=path.stat().st_size, sha256=hashlib.file_digest(file, "sha256").hexdigest())


def _check_size(directory: Path, name: str, expected: FileEntry) -> None:
    if Path(name).is_absolute() or ".." in Path(name).parts:
        raise ReleaseError(f"release {directory.name}: {name!r} lies outside of the release")
    try:
        size_bytes = (directory / name).stat().st_size
    except FileNotFoundError as error:
        raise IncompleteReleaseError(f"release {directory.name}: {name} is missing") from error
    except OSError as error:
        raise ReleaseError(f"release {directory.name}: {name} cannot be read ({error.strerror})") from error
    if size_bytes != expected.size_bytes:
        kind = IncompleteReleaseError if size_bytes < expected.size_bytes else ReleaseError
        raise kind(f"release {directory.name}: {name} has {size_bytes} bytes, the manifest says {expected.size_bytes}")


def _verified_copy(directory: Path, name: str, expected: FileEntry, tensor: str | None) -> PrivateCopy:
    try:
        with open_regular_file(directory / name) as file:
            copy = PrivateCopy(file, name, None if tensor is None else _place_of(file, tensor))
    except OSError as error:
        raise ReleaseError(f"release {directory.name}: {name} cannot be read ({error.strerror})") from error
    if copy.sha256 != expected.sha256:
        raise ReleaseError(f"release {directory.name}: {name} is damaged: its SHA-256 is not the manifest's")
    return copy


def _place_of(file: FileIO, tensor: str) -> Stretch | None:
    """Where a tensor is in a safetensors file; None where it is not, or the file is damaged: then all of it is kept."""
    try:
        header_bytes = int.from_bytes(file.read(8), "little")
        if header_bytes > MAX_HEADER_BYTES:
            return None
        header = json.loads(file.read(header_bytes))
        start, stop = (8 + header_bytes + operator.index(offset) for offset in header[tensor]["data_offsets"])
        return Stretch(start, stop)
    except (KeyError, TypeError, ValueError):
        return None
    finally:
        file.seek(0)


def _read_bytes(path: Path) -> bytes:
    with open_regular_file(path) as file:
        return file.read()


def open_regular_file(path: Path) -> FileIO:
    """Open for reading. Raises OSError for what is not a file: reading from a pipe might never end."""
    file = FileIO(os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK))
    if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        file.close()
        raise OSError(errno.EINVAL, "not a file", str(path))
    return file
