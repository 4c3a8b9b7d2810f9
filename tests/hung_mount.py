"""A file system that never answers, as a network file system whose server is gone."""

import contextlib
import ctypes
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

MNT_DETACH = 2


@contextlib.contextmanager
def hung_mount(directory: Path) -> Iterator[None]:
    """Mount it until the block ends: whoever opens a file below `directory` waits. Skips where that is impossible.

    It is a FUSE file system whose server does not read its requests.
    """
    try:
        server = os.open("/dev/fuse", os.O_RDWR)
    except OSError as error:
        pytest.skip(f"a hung mount is NOT tested: {error}")
    libc = ctypes.CDLL(None, use_errno=True)
    options = f"fd={server},rootmode=40000,user_id=0,group_id=0"
    try:
        if libc.mount(b"hung", str(directory).encode(), b"fuse", 0, options.encode()):
            pytest.skip(f"a hung mount is NOT tested: {os.strerror(ctypes.get_errno())}")
        try:
            yield
        finally:
            libc.umount2(str(directory).encode(), MNT_DETACH)
    finally:
        os.close(server)
