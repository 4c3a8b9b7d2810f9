"""Locks between processes."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def try_lock(path: Path) -> Iterator[bool]:
    """Lock a file or directory until the block ends; yield False where another process holds it. Raises OSError."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
        else:
            yield True
    finally:
        os.close(descriptor)


@contextmanager
def only_process_in(directory: Path) -> Iterator[None]:
    """Make the directory, and lock it until the block ends. Raises ValueError where it is locked."""
    directory.mkdir(parents=True, exist_ok=True)
    with try_lock(directory) as free:
        if not free:
            raise ValueError(f"{directory}: another process is working there")
        yield
