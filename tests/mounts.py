"""File systems as one meets them: one that never answers, one that is full. They need root, and skip without."""

import contextlib
import ctypes
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

MNT_DETACH = 2


@contextlib.contextmanager
def hung_mount(directory: Path) -> Iterator[None]:
    """Mount what never answers until the block ends: whoever opens a file below `directory` waits.

    It is like a network file system whose server is gone: a FUSE file system whose server reads no request.
    """
    try:
        server = os.open("/dev/fuse", os.O_RDWR)
    except OSError as error:
        pytest.skip(f"a hung mount is NOT tested: {error}")
    try:
        with _mounted(directory, "fuse", f"fd={server},rootmode=40000,user_id=0,group_id=0"):
            yield
    finally:
        os.close(server)


@contextlib.contextmanager
def small_disk(directory: Path, size_kib: int) -> Iterator[None]:
    """Mount a file system of that size until the block ends."""
    with _mounted(directory, "tmpfs", f"size={size_kib}k"):
        yield


@contextlib.contextmanager
def _mounted(directory: Path, kind: str, options: str) -> Iterator[None]:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.mount(kind.encode(), str(directory).encode(), kind.encode(), 0, options.encode()):
        pytest.skip(f"{kind} cannot be mounted, so this is NOT tested: {os.strerror(ctypes.get_errno())}")
    try:
        yield
    finally:
        libc.umount2(str(directory).encode(), MNT_DETACH)
