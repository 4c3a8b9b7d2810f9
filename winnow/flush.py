"""Writing through to the disk."""

import os
from pathlib import Path


def flush_to_disk(path: Path) -> None:
    """Return when a file's content, or the names in a directory, would survive a loss of power. Raises OSError."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
