"""Logs what the gateway answered to requests with a user id, for a share of them.

An answer waits for nothing: it is put into a queue, and a thread turns it into a line and writes. What the queue has no
room for is dropped and counted, and so is what cannot be written.
"""

import os
import random
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from queue import Empty, Full, Queue
from typing import NamedTuple

import structlog

from winnow.answer_log.files import block_of, new_file
from winnow.answer_log.records import line_of
from winnow.serving.metrics import Metrics
from winnow.v1 import recommendation_pb2

_log = structlog.get_logger(__name__)

# A few KiB each.
MAX_QUEUED_ANSWERS = 4_000
# A block is written when it holds this many bytes, or after this time: what a killed gateway may lose.
BLOCK_BYTES = 512 * 1024
BLOCK_SECONDS = 1.0
# So that files can be removed by their age.
MAX_FILE_SECONDS = 86_400.0
# Whoever cannot write is not waited for.
CLOSE_SECONDS = 2.0


class _Answered(NamedTuple):
    seconds: int
    user_id: str
    response: recommendation_pb2.RecommendItemsResponse


class AnswerLog:
    """Writes files of its own below a directory: several gateways may share it."""

    def __init__(
        self,
        directory: Path,
        *,
        share: float,
        max_file_bytes: int,
        metrics: Metrics,
        draw: Callable[[], float] = random.random,
    ) -> None:
        """Log a `share` of the answers, in files of about `max_file_bytes`. `draw` returns numbers in [0, 1)."""
        self._directory = directory
        self._share = share
        self._draw = draw
        self._queue: Queue[_Answered | None] = Queue(MAX_QUEUED_ANSWERS)
        self._writer = _Writer(directory, max_file_bytes, metrics)
        self._dropped = metrics.logged_answers.labels("queue_full").inc
        self._thread = threading.Thread(target=self._run, name="answer-log", daemon=True)

    def start(self) -> None:
        """Begin to write. Raises ValueError where the directory cannot be made."""
        try:
            self._directory.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ValueError(f"answer_log {self._directory}: {error.strerror}") from error
        self._thread.start()

    def offer(
        self,
        request: recommendation_pb2.RecommendItemsRequest,
        response: recommendation_pb2.RecommendItemsResponse,
    ) -> None:
        """Log an answer, perhaps; neither message may change any more. Never waits, never raises."""
        if not request.user_id or self._draw() >= self._share:
            return
        given = request.HasField("request_timestamp_seconds")
        seconds = request.request_timestamp_seconds if given else int(time.time())
        try:
            self._queue.put_nowait(_Answered(seconds, request.user_id, response))
        except Full:
            self._dropped()

    def close(self) -> None:
        """Write what is queued, unless that takes long."""
        if not self._thread.is_alive():
            return
        with suppress(Full):
            self._queue.put(None, timeout=CLOSE_SECONDS)
        self._thread.join(CLOSE_SECONDS)

    def _run(self) -> None:
        lines: list[bytes] = []
        size, write_at = 0, 0.0
        stopped = False
        while not stopped:
            try:
                answered = self._queue.get(timeout=max(0.0, write_at - time.monotonic()) if lines else None)
            except Empty:
                pass
            else:
                if answered is None:
                    stopped = True
                else:
                    write_at = write_at if lines else time.monotonic() + BLOCK_SECONDS
                    lines.append(_line(answered))
                    size += len(lines[-1])
                    # The event loop gets the interpreter back after every line, not after several milliseconds.
                    time.sleep(0)
            if lines and (stopped or size >= BLOCK_BYTES or time.monotonic() >= write_at):
                self._writer.write(lines)
                lines, size = [], 0
        self._writer.close()


class _Writer:
    """Appends blocks to a file, and begins another one when it is large or old."""

    def __init__(self, directory: Path, max_file_bytes: int, metrics: Metrics) -> None:
        self._directory = directory
        self._max_file_bytes = max_file_bytes
        self._written = metrics.logged_answers.labels("written").inc
        self._lost = metrics.logged_answers.labels("write_failed").inc
        self._descriptor: int | None = None
        self._size = 0
        self._old_at = 0.0
        self._failing = False

    def write(self, lines: list[bytes]) -> None:
        """Write lines as one block, or none of them."""
        try:
            self._append(block_of(lines))
        except OSError as error:
            self._lost(len(lines))
            self._cut()
            if not self._failing:
                self._failing = True
                _log.warning("the answer log cannot be written", reason=error.strerror)
            return
        self._written(len(lines))
        if self._failing:
            self._failing = False
            _log.info("the answer log is written again")

    def close(self) -> None:
        """Close the file."""
        if self._descriptor is not None:
            with suppress(OSError):
                os.close(self._descriptor)
            self._descriptor = None

    def _append(self, block: bytes) -> None:
        if self._descriptor is not None and (
            self._size >= self._max_file_bytes
            or time.monotonic() >= self._old_at
            or not os.fstat(self._descriptor).st_nlink  # removed
        ):
            self.close()
        if self._descriptor is None:
            self._descriptor = new_file(self._directory)
            self._size, self._old_at = 0, time.monotonic() + MAX_FILE_SECONDS
        left = memoryview(block)
        while left:
            left = left[os.write(self._descriptor, left) :]
        self._size += len(block)

    def _cut(self) -> None:
        """Take what was written of a block out of the file again: what follows could not be read."""
        if self._descriptor is None:
            return
        try:
            os.ftruncate(self._descriptor, self._size)
        except OSError:
            self.close()


def _line(answered: _Answered) -> bytes:
    """Return the line of an answer: see AnswerRecord."""
    response = answered.response
    items = [
        {"item_id": item.item_id, "score": item.score, "sources": [one.source for one in sources]}
        if (sources := item.sources)
        else {"item_id": item.item_id, "score": item.score}
        for item in response.items
    ]
    step = recommendation_pb2.DegradationStep.Name(response.degradation.step)
    return line_of(
        {
            "recommendation_id": response.recommendation_id,
            "timestamp": answered.seconds,
            "user_id": answered.user_id,
            "release_id": response.release_id,
            "arm": response.experiment_arm,
            "degradation": step.removeprefix("DEGRADATION_STEP_"),
            "degradation_reason": response.degradation.reason,
            "items": items,
        }
    )
