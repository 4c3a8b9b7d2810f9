"""The requests of a load come from a file of histories, whose bad lines are named."""

from pathlib import Path

import pytest

from winnow.loadtest.histories import read_histories, serialize
from winnow.v1 import recommendation_pb2


def test_histories_are_read_and_a_bad_line_is_named(tmp_path: Path) -> None:
    path = tmp_path / "histories.jsonl"
    path.write_text('["a", "b"]\n[]\n')
    assert read_histories(path) == [["a", "b"], []]
    path.write_text('["a"]\n["b", 3]\n')
    with pytest.raises(ValueError, match="line 2: not a list of item ids"):
        read_histories(path)
    path.write_text("")
    with pytest.raises(ValueError, match="holds no history"):
        read_histories(path)


def test_each_history_is_one_request() -> None:
    requests = [recommendation_pb2.RecommendItemsRequest.FromString(data) for data in serialize([["a", "b"], []], 7)]
    assert [[watch.item_id for watch in request.history] for request in requests] == [["a", "b"], []]
    assert [request.item_count for request in requests] == [7, 7]
