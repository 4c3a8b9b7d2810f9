"""One process at a time in a directory: schedulers start the next run whether or not the last one has ended."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def only_process_in(directory: Path) -> Iterator[None]:
    """Make the directory, and lock it until the block ends. Raises ValueError where it is locked."""
    directory.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ValueError(f"{directory}: another process is working there") from None
        yield
    finally:
        os.close(descriptor)
