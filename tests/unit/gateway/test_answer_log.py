"""The answer log never makes an answer wait, and says what it has lost."""

import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest
from pydantic import ValidationError

from gateway import answer_log
from gateway.answer_log import AnswerLog
from gateway.settings import GatewaySettings
from tests.mounts import small_disk
from winnow.answer_log.files import Damage, log_files, read_lines
from winnow.answer_log.records import AnswerRecord, ServedItem
from winnow.rpc.uuid7 import uuid7
from winnow.serving.metrics import Metrics
from winnow.v1 import recommendation_pb2


def request(user_id: str = "ann", seconds: int | None = 1_700_000_000) -> recommendation_pb2.RecommendItemsRequest:
    return recommendation_pb2.RecommendItemsRequest(user_id=user_id, request_timestamp_seconds=seconds)


def response(number: int = 1, item_ids: tuple[str, ...] = ("a", "b")) -> recommendation_pb2.RecommendItemsResponse:
    made = recommendation_pb2.RecommendItemsResponse(
        recommendation_id=uuid7(number * 1_000_000, 5),
        release_id="release",
        experiment_arm="new",
        degradation=recommendation_pb2.Degradation(
            step=recommendation_pb2.DEGRADATION_STEP_POPULAR_RANKED, reason="candidate: UNAVAILABLE"
        ),
        items=[recommendation_pb2.ScoredItem(item_id=item_id, score=0.5) for item_id in item_ids],
    )
    made.items[0].sources.add(source="fresh", place=3)
    return made


def log_to(
    directory: Path, metrics: Metrics | None = None, *, share: float = 1.0, max_file_bytes: int = 1 << 20
) -> AnswerLog:
    return AnswerLog(
        directory, share=share, max_file_bytes=max_file_bytes, metrics=metrics or Metrics(), draw=lambda: 0.5
    )


def logged(directory: Path) -> list[AnswerRecord]:
    return [record for path in log_files([directory]) for _, record in read_lines(path, Damage())]


def counted(metrics: Metrics, outcome: str) -> float:
    return metrics.registry.get_sample_value("winnow_logged_answers_total", {"outcome": outcome}) or 0.0


def wait_for(condition: Callable[[], object]) -> None:
    give_up = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < give_up
        time.sleep(0.01)


def test_a_record_says_what_was_answered_to_whom_and_from_what(tmp_path: Path) -> None:
    metrics = Metrics()
    log = log_to(tmp_path / "log", metrics)
    log.start()
    log.offer(request(), response())
    log.close()
    assert logged(tmp_path / "log") == [
        AnswerRecord(
            recommendation_id=response().recommendation_id,
            timestamp=1_700_000_000,
            user_id="ann",
            release_id="release",
            arm="new",
            degradation="POPULAR_RANKED",
            degradation_reason="candidate: UNAVAILABLE",
            items=(ServedItem(item_id="a", score=0.5, sources=("fresh",)), ServedItem(item_id="b", score=0.5)),
        )
    ]
    assert counted(metrics, "written") == 1


def test_the_time_is_now_where_the_request_names_none(tmp_path: Path) -> None:
    log = log_to(tmp_path)
    log.start()
    log.offer(request(seconds=None), response())
    log.close()
    assert abs(logged(tmp_path)[0].timestamp - time.time()) < 60


@pytest.mark.parametrize(("share", "user_id"), [(0.5, "ann"), (1.0, "")], ids=["not drawn", "without a user"])
def test_other_answers_are_not_logged(tmp_path: Path, share: float, user_id: str) -> None:
    log = log_to(tmp_path, share=share)
    log.start()
    log.offer(request(user_id), response())
    log.close()
    assert not list(tmp_path.iterdir())


def test_an_answer_is_written_within_seconds_even_if_it_is_the_only_one(tmp_path: Path) -> None:
    log = log_to(tmp_path)
    log.start()
    log.offer(request(), response())
    wait_for(lambda: log_files([tmp_path]) and logged(tmp_path))
    log.close()


def test_files_are_rotated_by_size_and_hold_whole_records(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(answer_log, "BLOCK_BYTES", 1)
    log = log_to(tmp_path, max_file_bytes=1000)
    log.start()
    for number in range(50):
        log.offer(request(), response(number + 1))
    log.close()
    files = log_files([tmp_path])
    assert len(files) > 5
    assert all(path.stat().st_size < 2000 for path in files)
    assert len({record.recommendation_id for record in logged(tmp_path)}) == 50


def test_several_gateways_write_files_of_their_own(tmp_path: Path) -> None:
    logs = [log_to(tmp_path) for _ in range(3)]
    for number, log in enumerate(logs):
        log.start()
        log.offer(request(), response(number + 1))
    for log in logs:
        log.close()
    assert len(log_files([tmp_path])) == 3
    assert len(logged(tmp_path)) == 3


def test_a_file_that_was_removed_is_not_written_any_more(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(answer_log, "BLOCK_BYTES", 1)
    log = log_to(tmp_path)
    log.start()
    log.offer(request(), response(1))
    wait_for(lambda: log_files([tmp_path]))
    log_files([tmp_path])[0].unlink()
    log.offer(request(), response(2))
    log.close()
    assert [record.recommendation_id for record in logged(tmp_path)] == [response(2).recommendation_id]


def test_answers_that_the_queue_has_no_room_for_are_dropped_and_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hung = threading.Event()
    monkeypatch.setattr(answer_log, "BLOCK_BYTES", 1)
    monkeypatch.setattr(answer_log, "MAX_QUEUED_ANSWERS", 10)
    monkeypatch.setattr(answer_log, "new_file", lambda _: hung.wait() and 1 / 0)
    monkeypatch.setattr(answer_log, "CLOSE_SECONDS", 0.05)
    metrics = Metrics()
    log = log_to(tmp_path, metrics)
    log.start()
    for number in range(100):
        log.offer(request(), response(number + 1))
    assert 100 - 10 - 1 <= counted(metrics, "queue_full") <= 100 - 10
    log.close()  # does not wait for the disk


def test_a_full_disk_costs_records_but_no_answer_and_the_log_goes_on_afterwards(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(answer_log, "BLOCK_BYTES", 1)
    metrics = Metrics()
    disk = tmp_path / "disk"
    disk.mkdir()
    with small_disk(disk, 64):
        log = log_to(disk / "log", metrics)
        log.start()
        log.offer(request(), response(1))
        wait_for(lambda: counted(metrics, "written") == 1)
        filler = disk / "filler"
        with filler.open("wb", buffering=0) as file, suppress(OSError):
            while True:
                file.write(bytes(4096))
        # Beyond the page that the file has already.
        large = tuple(f"{number} item {number * number}" for number in range(2000))
        log.offer(request(), response(2, large))
        wait_for(lambda: counted(metrics, "write_failed") == 1)
        filler.unlink()
        log.offer(request(), response(3, large))
        wait_for(lambda: counted(metrics, "written") == 2)
        log.close()
        damage = Damage()
        [path] = log_files([disk / "log"])
        found = [record.recommendation_id for _, record in read_lines(path, damage)]
        assert found == [response(1).recommendation_id, response(3).recommendation_id]
        assert damage == Damage()


KILLED = """
import sys, time
from pathlib import Path
from tests.unit.gateway.test_answer_log import answer_log, log_to, request, response
answer_log.BLOCK_BYTES = 1
log = log_to(Path(sys.argv[1]))
log.start()
number = 0
while True:
    number += 1
    log.offer(request(), response(number))
    time.sleep(0)
"""


def test_the_log_of_a_gateway_that_was_killed_is_read_up_to_the_cut(tmp_path: Path) -> None:
    process = subprocess.Popen([sys.executable, "-c", KILLED, str(tmp_path)])
    try:
        wait_for(lambda: any(path.stat().st_size > 20_000 for path in tmp_path.glob("*.gz")))
    finally:
        process.kill()
        process.wait()
    [path] = log_files([tmp_path])
    written = logged(tmp_path)
    assert [record.recommendation_id for record in written] == [
        response(number + 1).recommendation_id for number in range(len(written))
    ]
    # A kill hardly ever falls into a write: cut it as one that did.
    path.write_bytes(path.read_bytes()[:-20])
    damage = Damage()
    assert len(list(read_lines(path, damage))) >= len(written) - 1
    assert len(damage.cut_files) == 1


def test_a_log_needs_a_directory_and_users(tmp_path: Path) -> None:
    with pytest.raises(ValidationError, match="answer_log_share needs an answer_log"):
        GatewaySettings(answer_log_share=0.1, users_store="users.db")
    with pytest.raises(ValidationError, match="answer_log needs a users_store"):
        GatewaySettings(answer_log=tmp_path)


def test_a_directory_that_cannot_be_made_is_an_error_at_the_start(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ValueError, match=r"answer_log .*file: File exists"):
        log_to(tmp_path / "file").start()
