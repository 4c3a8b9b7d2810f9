"""Item ids as strings at the edge, rows of the networks' tables everywhere else."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load_file, save_file

from winnow.history import Rows

MAX_ITEM_ID_BYTES = 512
"""The longest item id, in bytes of UTF-8: what no request may hold is neither trained on nor recommended."""


class Vocabulary:
    """The items a release knows: row r of every table belongs to the r-th item id.

    Paper, section 4.1.2: the top N items by frequency; what is outside has no row and contributes nothing.
    """

    def __init__(self, item_ids: Sequence[str]) -> None:
        """Raise ValueError where an id occurs twice, is empty or is longer than MAX_ITEM_ID_BYTES."""
        self._item_ids = list(item_ids)
        self._row_of = dict(zip(self._item_ids, range(len(self._item_ids)), strict=True))
        if len(self._row_of) != len(self._item_ids):
            twice = next(id_ for row, id_ in enumerate(self._item_ids) if self._row_of[id_] != row)
            raise ValueError(f"item id {twice!r} occurs twice in the vocabulary")
        # UTF-8 has at most 4 bytes per character: nearly always, no id has to be encoded.
        if "" in self._row_of or max(map(len, self._item_ids), default=0) > MAX_ITEM_ID_BYTES // 4:
            for item_id in self._item_ids:
                if not 1 <= len(item_id.encode()) <= MAX_ITEM_ID_BYTES:
                    raise ValueError(f"item id {item_id[:80]!r} is not 1 to {MAX_ITEM_ID_BYTES} bytes long")

    def __len__(self) -> int:
        return len(self._item_ids)

    def __contains__(self, item_id: str) -> bool:
        return item_id in self._row_of

    def rows(self, item_ids: Iterable[str]) -> tuple[Rows, int]:
        """Return the rows of the known ids, int32, in order, and how many ids are unknown."""
        found = list(map(self._row_of.get, item_ids))
        # Nearly every request knows its ids: one pass in C sees that none is missing.
        known = [row for row in found if row is not None] if None in found else found
        return np.array(known, dtype=np.int32), len(found) - len(known)

    def rows_and_places(self, item_ids: Sequence[str]) -> tuple[Rows, NDArray[np.int32]]:
        """Return the rows of the known ids, in order, and the place of each of them in the list, from 1; both int32."""
        rows, unknown_count = self.rows(item_ids)
        if not unknown_count:
            return rows, np.arange(1, len(rows) + 1, dtype=np.int32)
        places = [place for place, item_id in enumerate(item_ids, start=1) if item_id in self._row_of]
        return rows, np.array(places, dtype=np.int32)

    def rows_in(self, other: "Vocabulary") -> Rows:
        """Return the row that each item has in another vocabulary, int32; -1 where it is not there."""
        known, places = other.rows_and_places(self._item_ids)
        rows = np.full(len(self), -1, dtype=np.int32)
        rows[places - 1] = known
        return rows

    def item_ids(self, rows: Iterable[int]) -> list[str]:
        """Return the item id of each row."""
        ids = self._item_ids
        return [ids[row] for row in rows]

    def save(self, path: Path) -> None:
        """Write the ids as one UTF-8 blob and the end of each id in it."""
        encoded = [item_id.encode() for item_id in self._item_ids]
        ends = np.cumsum([len(id_) for id_ in encoded], dtype=np.int64)
        save_file({"utf8": np.frombuffer(b"".join(encoded), dtype=np.uint8), "ends": ends}, path)

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read what `save` wrote. Raises ValueError where the file is not a vocabulary."""
        tensors = load_file(path)
        try:
            blob, ends = tensors["utf8"].tobytes(), tensors["ends"].tolist()
        except KeyError as missing:
            raise ValueError(f"there is no tensor {missing}") from None
        starts = [0, *ends][: len(ends)]
        if ends and (ends[-1] != len(blob) or any(start > end for start, end in zip(starts, ends, strict=True))):
            raise ValueError("the ends of the ids do not fit their text")
        return cls([blob[start:end].decode() for start, end in zip(starts, ends, strict=True)])
