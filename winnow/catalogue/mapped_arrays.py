"""Arrays of a safetensors file as views of the mapped file: pages are read when used, and shared between processes."""

import math
import mmap
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import safe_open

STORED_TYPES = {
    "U8": np.uint8,
    "U16": np.uint16,
    "U32": np.uint32,
    "U64": np.uint64,
    "I8": np.int8,
    "I64": np.int64,
    "F64": np.float64,
}


def map_arrays(path: Path) -> tuple[mmap.mmap, dict[str, NDArray[Any]], Mapping[str, str]]:
    """Map a safetensors file. Return the mapping, its tensors as views of it, and its metadata.

    The library's own reader copies NumPy arrays into memory. It has checked that the tensors follow each other without
    gaps up to the end of the file, in the order of `offset_keys`: that is all it takes to find them.
    Raises SafetensorError where the file is not one, and KeyError for a type that is not in STORED_TYPES.
    """
    with safe_open(path, framework="numpy") as opened:
        metadata = opened.metadata() or {}
        slices = {name: opened.get_slice(name) for name in opened.offset_keys()}
        described = {name: (STORED_TYPES[part.get_dtype()], part.get_shape()) for name, part in slices.items()}
    sizes = {name: math.prod(shape) * np.dtype(dtype).itemsize for name, (dtype, shape) in described.items()}
    with path.open("rb") as file:
        mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    offset = len(mapped) - sum(sizes.values())
    arrays = {}
    for name, (dtype, shape) in described.items():
        arrays[name] = np.frombuffer(mapped, dtype, count=math.prod(shape), offset=offset).reshape(shape)
        offset += sizes[name]
    return mapped, arrays, metadata
