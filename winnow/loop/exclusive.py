"""One process at a time in a directory: schedulers start the next run whether or not the last one has ended."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from winnow.locks import try_lock


@contextmanager
def only_process_in(directory: Path) -> Iterator[None]:
    """Make the directory, and lock it until the block ends. Raises ValueError where it is locked."""
    directory.mkdir(parents=True, exist_ok=True)
    with try_lock(directory) as free:
        if not free:
            raise ValueError(f"{directory}: another process is working there")
        yield
