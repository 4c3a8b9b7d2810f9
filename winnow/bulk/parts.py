"""A Parquet file that is made part by part: whole or not there, and continued where it was stopped."""

import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import polars as pl

from winnow.flush import flush_to_disk


class OutputError(ValueError):
    """The output cannot be written; the text says what to do about it."""


class PartedFile:
    """Collects the parts of `output` in a directory beside it, and joins them when all are there.

    Every file is written under another name, flushed to the disk and renamed: what has its name is whole. `job` says
    what is being made. Parts are continued with the same job only; they are removed when the output is there.
    """

    def __init__(self, output: Path, part_count: int, job: Mapping[str, Any]) -> None:
        self._output = output
        self._part_count = part_count
        self._job = json.dumps({**job, "parts": part_count}, sort_keys=True)
        self._directory = output.with_name(output.name + ".parts")
        self._job_file = self._directory / "job.json"

    def open(self) -> list[int]:
        """Return the parts that are missing. Raises OutputError where the output exists or the parts are another's."""
        if self._output.exists():
            raise OutputError(f"{self._output} exists: remove it, or name another output")
        if self._directory.exists() and not self._job_file.exists():
            # Begun and not described yet, or joined already and not removed yet.
            shutil.rmtree(self._directory)
        if self._job_file.exists() and self._job_file.read_text() != self._job:
            raise OutputError(
                f"{self._directory} holds parts of another log or of other options: finish that run, or remove it"
            )
        self._directory.mkdir(parents=True, exist_ok=True)
        if not self._job_file.exists():
            _write_whole(self._job_file, self._job.encode())
        return [part for part in range(self._part_count) if not self._part(part).exists()]

    def write(self, part: int, frame: pl.DataFrame) -> None:
        """Keep a part."""
        path = self._part(part)
        unfinished = _unfinished(path)
        frame.write_parquet(unfinished)
        _put_in_place(unfinished, path)

    def read(self, part: int, columns: Sequence[str]) -> pl.DataFrame:
        """Return columns of a part that is there."""
        return pl.read_parquet(self._part(part), columns=list(columns), glob=False)

    def join(self) -> None:
        """Make the output of the parts, in bounded memory, and remove them."""
        unfinished = _unfinished(self._output)
        parts = [self._part(part) for part in range(self._part_count)]
        pl.scan_parquet(parts, glob=False).sink_parquet(unfinished)
        flush_to_disk(unfinished)
        # First, so that parts which are left over are never taken for those of a later run of the same job.
        self._job_file.unlink()
        flush_to_disk(self._directory)
        _put_in_place(unfinished, self._output)
        shutil.rmtree(self._directory)

    def _part(self, part: int) -> Path:
        return self._directory / f"part-{part:06d}.parquet"


def _unfinished(path: Path) -> Path:
    return path.with_name(path.name + ".unfinished")


def _write_whole(path: Path, content: bytes) -> None:
    unfinished = _unfinished(path)
    unfinished.write_bytes(content)
    _put_in_place(unfinished, path)


def _put_in_place(unfinished: Path, path: Path) -> None:
    flush_to_disk(unfinished)
    unfinished.replace(path)
    flush_to_disk(path.parent)
