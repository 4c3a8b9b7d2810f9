"""Records and files of an answer log, as tests need them."""

import os
from collections.abc import Sequence
from pathlib import Path

from winnow.answer_log.files import block_of, new_file
from winnow.answer_log.records import AnswerRecord, ServedItem, line_of
from winnow.rpc.uuid7 import uuid7


def record(
    number: int, user_id: str = "ann", items: Sequence[str] = ("a", "b"), seconds: int | None = None
) -> AnswerRecord:
    """Answer `number` is answered that many seconds after the epoch."""
    return AnswerRecord(
        recommendation_id=uuid7(number * 1_000_000_000, 7),
        timestamp=number if seconds is None else seconds,
        user_id=user_id,
        release_id="20260101T000000Z-000000000000",
        degradation="NONE",
        items=tuple(ServedItem(item_id=item, score=0.5) for item in items),
    )


def write_log(directory: Path, *blocks: Sequence[AnswerRecord]) -> Path:
    """Write one file of these blocks and return its path."""
    directory.mkdir(parents=True, exist_ok=True)
    before = set(directory.iterdir())
    descriptor = new_file(directory)
    for block in blocks:
        os.write(descriptor, block_of([line_of(one.model_dump()) for one in block]))
    os.close(descriptor)
    [made] = [path for path in directory.iterdir() if path not in before]
    return made
