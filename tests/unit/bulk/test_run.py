"""A run over all users of a log: who is asked for what, what is written, what is tried again, what is continued."""

import io
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import grpc
import polars as pl
import pytest
from rich.console import Console

from tests.unit.client.fake_gateway import Failure, FakeGateway, fake_gateway
from winnow.bulk.parts import OutputError
from winnow.bulk.run import recommend_users
from winnow.bulk.users import TRIES, Pace
from winnow.client import RecommendationRequest, WinnowError
from winnow.v1 import recommendation_pb2

ASKED = RecommendationRequest(count=5, include_watched=True)
AWAY = Failure(grpc.StatusCode.RESOURCE_EXHAUSTED, "too much work is waiting")


@pytest.fixture
def gateway() -> Any:
    with fake_gateway() as running:
        running.response = recommendation_pb2.RecommendItemsResponse(
            release_id="release-1",
            recommendation_id="id-1",
            score_type=recommendation_pb2.SCORE_TYPE_WATCH_PROBABILITY,
            degradation=recommendation_pb2.Degradation(step=recommendation_pb2.DEGRADATION_STEP_NONE),
        )
        yield running


def write_log(path: Path, watches: list[tuple[str, str]]) -> Path:
    user_ids, item_ids = zip(*watches, strict=True)
    times = list(range(len(watches)))
    pl.DataFrame({"user_id": user_ids, "item_id": item_ids, "timestamp": times}).write_parquet(path)
    return path


@pytest.fixture
def log(tmp_path: Path) -> Path:
    """1,000 users with one watch each, of an item of their own name."""
    return write_log(tmp_path / "log.parquet", [(f"u{n}", f"i{n}") for n in range(1000)])


def run(gateway: FakeGateway, log: Path, output: Path, **asked: Any) -> Counter[str]:
    return recommend_users(
        log,
        output,
        replace(ASKED, **asked),
        target=gateway.target,
        timeout_seconds=5,
        console=Console(file=io.StringIO()),
        pace=Pace(users_per_part=300, first_pause_seconds=0.001),
    )


def users_asked(gateway: FakeGateway) -> Counter[str]:
    return Counter(request.history[0].item_id for batch in gateway.requests for request in batch.requests)


def test_every_user_is_asked_once_and_written_in_the_order_of_the_log(
    gateway: FakeGateway, log: Path, tmp_path: Path
) -> None:
    assert run(gateway, log, tmp_path / "out.parquet") == Counter(OK=1000)
    assert users_asked(gateway) == Counter({f"i{n}": 1 for n in range(1000)})
    written = pl.read_parquet(tmp_path / "out.parquet")
    assert written["user_id"].to_list() == [f"u{n}" for n in range(1000)]
    assert written.row(7, named=True) == {
        "user_id": "u7",
        "position": 1,
        "item_id": "i7",
        "score": 0.0,
        "score_type": "WATCH_PROBABILITY",
        "release_id": "release-1",
        "recommendation_id": "id-1",
        "degradation": "NONE",
        "status": "OK",
        "error": None,
    }


def test_watches_beyond_the_longest_history_are_excluded(gateway: FakeGateway, tmp_path: Path) -> None:
    log = write_log(tmp_path / "log.parquet", [("u", f"i{n}") for n in range(2500)])
    run(gateway, log, tmp_path / "out.parquet", include_watched=False)
    ((request,),) = [batch.requests for batch in gateway.requests]
    assert [watch.item_id for watch in request.history] == [f"i{n}" for n in range(1500, 2500)]
    assert list(request.excluded_item_ids) == [f"i{n}" for n in range(500, 1500)]
    assert (request.item_count, request.include_watched) == (5, False)


def test_a_user_whose_request_fails_is_kept_with_the_status(gateway: FakeGateway, tmp_path: Path) -> None:
    log = write_log(tmp_path / "log.parquet", [("a", "x"), ("b", "bad"), ("c", "y")])
    assert run(gateway, log, tmp_path / "out.parquet") == Counter(OK=2, INVALID_ARGUMENT=1)
    written = pl.read_parquet(tmp_path / "out.parquet")
    assert written.select("user_id", "item_id", "status", "error").rows() == [
        ("a", "x", "OK", None),
        ("b", None, "INVALID_ARGUMENT", "bad"),
        ("c", "y", "OK", None),
    ]


def test_a_user_without_items_is_there_too(gateway: FakeGateway, tmp_path: Path) -> None:
    log = write_log(tmp_path / "log.parquet", [("a", "nothing")])
    assert run(gateway, log, tmp_path / "out.parquet") == Counter(OK=1)
    written = pl.read_parquet(tmp_path / "out.parquet")
    assert written.select("user_id", "item_id", "status").rows() == [("a", None, "OK")]


def test_what_may_succeed_later_is_tried_again(gateway: FakeGateway, log: Path, tmp_path: Path) -> None:
    gateway.failures = [AWAY] * 20
    assert run(gateway, log, tmp_path / "out.parquet") == Counter(OK=1000)
    # Within a call too, and then alone.
    gateway.requests.clear()
    gateway.status = recommendation_pb2.RequestStatus(code=grpc.StatusCode.UNAVAILABLE.value[0], message="away")
    other = write_log(tmp_path / "other.parquet", [("a", "x"), ("b", "bad")])
    assert run(gateway, other, tmp_path / "other-out.parquet") == Counter(OK=1, UNAVAILABLE=1)
    assert users_asked(gateway) == Counter(x=1, bad=TRIES)


def test_a_run_that_was_stopped_is_continued_and_gives_what_an_uninterrupted_one_gives(
    gateway: FakeGateway, log: Path, tmp_path: Path
) -> None:
    run(gateway, log, tmp_path / "whole.parquet")
    gateway.requests.clear()

    gateway.on_request = lambda: gateway.failures.append(AWAY) if len(gateway.requests) > 12 else None
    with pytest.raises(WinnowError, match="too much work is waiting"):
        run(gateway, log, tmp_path / "out.parquet")
    assert not (tmp_path / "out.parquet").exists()
    kept = len(list((tmp_path / "out.parquet.parts").glob("part-*.parquet")))
    assert 0 < kept < 4

    gateway.on_request = lambda: None
    gateway.failures.clear()
    gateway.requests.clear()
    assert run(gateway, log, tmp_path / "out.parquet") == Counter(OK=1000)
    assert users_asked(gateway).total() == 1000 - sum([300, 300, 300, 100][:kept])
    assert pl.read_parquet(tmp_path / "out.parquet").equals(pl.read_parquet(tmp_path / "whole.parquet"))


def test_other_options_do_not_continue_a_run(gateway: FakeGateway, log: Path, tmp_path: Path) -> None:
    gateway.on_request = lambda: gateway.failures.append(AWAY)
    with pytest.raises(WinnowError):
        run(gateway, log, tmp_path / "out.parquet")
    with pytest.raises(OutputError, match="of another log or of other options"):
        run(gateway, log, tmp_path / "out.parquet", count=6)


def test_the_output_is_a_parquet_file(gateway: FakeGateway, log: Path, tmp_path: Path) -> None:
    with pytest.raises(OutputError, match=r"must end in \.parquet"):
        run(gateway, log, tmp_path / "out.csv")
    assert gateway.requests == []
