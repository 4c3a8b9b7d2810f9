"""From a log of impressions to served answers: what a service expects of an impression is what training expected."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
import torch

from tests.conftest import local_stack
from tests.unit.training.planted import write_planted_impressions, write_planted_log
from tests.unit.training.planted_run import train_planted
from winnow.client import ScoreType, Watch, WinnowClient, WinnowError
from winnow.evaluation.impression_scores import impression_scores
from winnow.logs.impression_log import ImpressionLog
from winnow.logs.interactions import read_interactions
from winnow.release.models.loader import load_ranking_network
from winnow.release.reader import open_release


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("impressions")
    write_planted_log(directory / "log.csv")
    write_planted_impressions(directory)
    result = train_planted(directory, impressions=True)
    assert result.figures["test"]["impressions"]["weighted_per_user_loss"] < 0.2
    return directory


@pytest.fixture(scope="module")
def client(directory: Path) -> Iterator[WinnowClient]:
    with (
        local_stack(directory / "releases") as stack,
        WinnowClient(stack.gateway_target, timeout_seconds=5) as opened,
    ):
        yield opened


def test_served_expectations_are_those_of_training(directory: Path, client: WinnowClient) -> None:
    interactions = read_interactions(directory / "log.csv", vocabulary_size=1000, min_item_count=1)
    log = ImpressionLog.read(directory / "impressions.csv", interactions, validation_share=0.2, test_share=0.2)
    impressions = log.impressions.test.take(slice(0, 40))
    release = open_release(directory / "releases" / (directory / "releases" / "CURRENT").read_text().strip())
    expected = impression_scores(load_ranking_network(release, torch.device("cpu")), impressions)
    assert float(np.std(expected)) > 1
    histories, contexts = impressions.histories(None), impressions.contexts()
    assert contexts.unclicked.lengths.max() > 2
    ids = interactions.vocabulary.item_ids
    found = []
    for number in range(40):
        bounds = slice(*histories.offsets[number : number + 2].tolist())
        answer = client.rank(
            list(
                map(
                    Watch,
                    ids(histories.rows[bounds].tolist()),
                    histories.weights[bounds].tolist(),
                    histories.timestamps[bounds].tolist(),
                )
            ),
            ids([int(impressions.rows[number])]),
            request_time=int(contexts.times[number]),
            unclicked_item_ids=["no such item", *ids(contexts.unclicked[number].tolist())],
        )
        assert answer.score_type is ScoreType.WATCH_SECONDS
        found.append(answer.items[0].score)
    np.testing.assert_allclose(found, expected, rtol=1e-4)


def test_when_a_request_is_made_and_what_was_shown_before_matter(client: WinnowClient) -> None:
    watched, items = ["item 1", "item 3", "item 5"], [f"item {row}" for row in range(40)]
    timed = [Watch(item, time=time) for time, item in enumerate(watched, start=1)]

    def scores(**known: Any) -> list[float]:
        ranked = client.rank(timed, items, **known)
        by_id = {item.item_id: item.score for item in ranked.items}
        return [by_id[item] for item in items]

    assert scores(request_time=100_000) == scores(request_time=100_000)
    assert scores(request_time=100_000) != scores(request_time=10)
    assert scores(request_time=100_000) != scores(request_time=100_000, unclicked_item_ids=items[:4])
    answer = client.recommend(watched, request_time=100_000, unclicked_item_ids=["item 7"], count=10)
    assert (answer.score_type, answer.degraded) == (ScoreType.WATCH_SECONDS, False)
    alone = client.rank(watched, [item.item_id for item in answer.items], request_time=100_000,
                        unclicked_item_ids=["item 7"])  # fmt: skip
    np.testing.assert_allclose([item.score for item in alone.items], [item.score for item in answer.items], rtol=1e-4)


@pytest.mark.parametrize(
    ("fields", "field", "description"),
    [
        (
            {"request_time": 1_700_000_000_000},
            "request_timestamp_seconds",
            "is 1700000000000: seconds since 1970, before the year 10000, are needed",
        ),
        ({"unclicked_item_ids": ["item 1", ""]}, "unclicked_item_ids[1]", "is empty"),
        ({"unclicked_item_ids": ["item 1"] * 1001}, "unclicked_item_ids", "has 1001 ids: at most 1000"),
    ],
)
def test_the_field_is_named(client: WinnowClient, fields: dict[str, Any], field: str, description: str) -> None:
    for call in (client.recommend, lambda history, **known: client.rank(history, ["item 2"], **known)):
        with pytest.raises(WinnowError) as failure:
            call(["item 1"], **fields)
        assert failure.value.code is grpc.StatusCode.INVALID_ARGUMENT
        assert failure.value.violations == ((field, description),)
