"""How a release gets its place: written into a temporary directory, sealed by its manifest, renamed, pointed at.

So no reader ever sees half of one, and what fails leaves nothing behind.
"""

import errno
import fcntl
import json
import os
import shutil
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from safetensors import SafetensorError

from winnow.flush import flush_to_disk
from winnow.locks import try_lock
from winnow.release.manifest import CURRENT_FILE, FORMAT_VERSION, MANIFEST_FILE, FileEntry, Manifest
from winnow.release.reader import describe_file, digest_of_files

WRITING_PREFIX = ".writing-"
POINTER_PREFIX = ".current-"
# What has been changed since is left alone: some file systems know no locks between machines.
LEFTOVER_SECONDS = 6 * 3600.0
# File systems without hard links, or with a limit of them.
NO_LINK_ERRORS = (errno.EPERM, errno.EXDEV, errno.EMLINK, errno.ENOTSUP)


@contextmanager
def new_release(releases: Path) -> Iterator[Path]:
    """Yield a temporary directory below `releases`. What has not been published in the end is removed.

    What an earlier writer has left that was killed is removed, too. Raises OSError that names `releases` where it
    cannot be written.
    """
    releases.mkdir(parents=True, exist_ok=True)
    _remove_leftovers(releases)
    with _one_kind_of_error(releases), _temporary_directory(releases) as temporary:
        yield temporary


def publish(
    temporary: Path,
    releases: Path,
    content: Mapping[str, Any],
    known_files: Mapping[str, FileEntry],
    *,
    make_current: bool = True,
) -> str:
    """Write the manifest, rename the directory and, unless told otherwise, point CURRENT at it. Return the id.

    `content` are the fields of the manifest that do not follow from the files. `known_files` need not be hashed again:
    they are links to files of another release.
    """
    names = sorted(path.name for path in temporary.iterdir())
    entries = {name: known_files.get(name) or describe_file(temporary / name) for name in names}
    created_at = datetime.now(UTC).replace(microsecond=0)
    release_id = f"{created_at:%Y%m%dT%H%M%SZ}-{digest_of_files(entries)}"
    manifest = Manifest(
        format_version=FORMAT_VERSION, release_id=release_id, created_at=created_at, files=entries, **content
    )
    (temporary / MANIFEST_FILE).write_text(json.dumps(manifest.model_dump(mode="json"), indent=1) + "\n")
    _take_place(temporary, releases, release_id, known_files, make_current=make_current)
    return release_id


def publish_copy(temporary: Path, releases: Path, release_id: str) -> None:
    """Publish a directory that is a whole release already, its manifest included, and point CURRENT at it."""
    _take_place(temporary, releases, release_id, {}, make_current=True)


def _take_place(
    temporary: Path, releases: Path, release_id: str, known_files: Mapping[str, FileEntry], *, make_current: bool
) -> None:
    for path in temporary.iterdir():
        if path.name not in known_files or path.stat().st_nlink == 1:
            path.chmod(0o644)
            flush_to_disk(path)
    temporary.chmod(0o755)

    def rename() -> None:
        # Where there is one of this id, it has the same files.
        if not (releases / release_id).exists():
            temporary.rename(releases / release_id)

    if not make_current:
        rename()
        flush_to_disk(releases)
        return
    with _pointer(releases, release_id) as pointer:
        rename()
        pointer.replace(releases / CURRENT_FILE)
        flush_to_disk(releases)


def link(source: Path, target: Path) -> None:
    """Give a file another name. Where the file system has no hard links, or no more of them, it is copied."""
    try:
        os.link(source, target)
    except OSError as error:
        if error.errno not in NO_LINK_ERRORS:
            raise
        shutil.copyfile(source, target)


def point_current_at(releases: Path, release_id: str) -> None:
    """Replace the CURRENT pointer atomically."""
    replace_file(releases, CURRENT_FILE, release_id)


def replace_file(releases: Path, name: str, line: str) -> None:
    """Make or replace a small file beside the releases atomically."""
    with _pointer(releases, line) as pointer:
        pointer.replace(releases / name)
        flush_to_disk(releases)


def remove_file(releases: Path, name: str) -> None:
    """Remove a small file beside the releases. Raises FileNotFoundError where there is none."""
    (releases / name).unlink()
    flush_to_disk(releases)


@contextmanager
def _pointer(releases: Path, line: str) -> Iterator[Path]:
    """Yield a file that can take the place of CURRENT; where it does not, it is removed."""
    descriptor, name = tempfile.mkstemp(prefix=POINTER_PREFIX, dir=releases)
    pointer = Path(name)
    try:
        with os.fdopen(descriptor, "w") as file:
            file.write(line + "\n")
        pointer.chmod(0o644)
        flush_to_disk(pointer)
        yield pointer
    finally:
        pointer.unlink(missing_ok=True)


@contextmanager
def _temporary_directory(releases: Path) -> Iterator[Path]:
    """Yield a directory that is locked while it is written; what has not been renamed in the end is removed."""
    directory = Path(tempfile.mkdtemp(prefix=WRITING_PREFIX, dir=releases))
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        with suppress(OSError):  # where there are no locks
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield directory
    finally:
        os.close(descriptor)
        shutil.rmtree(directory, ignore_errors=True)


def _remove_leftovers(releases: Path) -> None:
    """Remove what writers have left that were killed: what nobody holds a lock on, and nobody has changed of late."""
    youngest = time.time() - LEFTOVER_SECONDS
    for path in [*releases.glob(f"{WRITING_PREFIX}*"), *releases.glob(f"{POINTER_PREFIX}*")]:
        # Another writer may be removing it too.
        with suppress(OSError):
            if max(found.stat().st_mtime for found in (path, *path.glob("*"))) > youngest:
                continue
            with try_lock(path) as free:
                if free and path.is_dir():
                    shutil.rmtree(path, ignore_errors=True)
                elif free:
                    path.unlink()


@contextmanager
def _one_kind_of_error(releases: Path) -> Iterator[None]:
    """Make an OSError that names the directory of what the libraries raise where the disk is full."""
    try:
        yield
    except SafetensorError as error:
        raise OSError(f"{releases} cannot be written: {error}") from error
    except OSError as error:
        if error.errno is None:
            raise
        raise OSError(error.errno, error.strerror, str(releases)) from error
