"""What the caller knows of each watch reaches both networks, as in the plain computation, or is refused by name."""

from collections.abc import Iterator
from pathlib import Path

import grpc
import numpy as np
import polars as pl
import pytest
import torch
from typer.testing import CliRunner

from tests.conftest import local_stack
from tests.reference import DirectRecommender
from tests.releases import ITEM_COUNT, item_id, write_random_release
from winnow.cli import app
from winnow.client import Watch, WinnowClient, WinnowError
from winnow.history import UNKNOWN_TIME, RaggedRows, WatchHistories
from winnow.networks.options import HistoryOptions
from winnow.networks.packed import pack
from winnow.networks.watch_features import WatchFeatures
from winnow.serving.local_stack import LocalStack

HISTORY = HistoryOptions(
    history_length=12,
    bag_decays=(0.0, 0.3),
    watch_features=WatchFeatures(weight_edges=(2.0, 4.0), gap_edges_seconds=(60.0, 3600.0)),
)


@pytest.fixture(scope="module")
def featured_releases(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("featured-releases")
    write_random_release(directory, history=HISTORY)
    return directory


@pytest.fixture(scope="module")
def stack(featured_releases: Path) -> Iterator[LocalStack]:
    with local_stack(featured_releases) as started:
        yield started


@torch.inference_mode()
def plain(direct: DirectRecommender, histories: WatchHistories, count: int) -> list[str]:
    """The best unwatched items for one history."""
    user = direct.candidate_network.user_vectors(direct.candidate_network.pack(histories))
    logits = direct.candidate_network.logits(user)[0]
    logits[histories.rows] = -torch.inf
    candidates = logits.argsort(descending=True)[:200].to(torch.int32).numpy()
    scores = direct.ranking_network.logits(
        direct.ranking_network.pack(histories),
        pack(RaggedRows.from_lists([candidates]), torch.device("cpu")),
    )
    best = scores.argsort(descending=True, stable=True)[:count]
    return direct.vocabulary.item_ids(candidates[best].tolist())


@pytest.mark.parametrize("length", [1, 5, 40])
@pytest.mark.parametrize("unknown", [False, True])
def test_answers_equal_the_plain_computation(
    client: WinnowClient, featured_releases: Path, length: int, unknown: bool
) -> None:
    direct = DirectRecommender(featured_releases)
    rng = np.random.default_rng(length)
    rows = rng.permutation(ITEM_COUNT)[:length].astype(np.int32)
    weights = rng.uniform(0, 6, length).astype(np.float32)
    timestamps = rng.integers(0, 9000, length).cumsum()
    expected = plain(direct, WatchHistories.from_lengths(rows, np.array([length]), weights, timestamps), 30)
    without = plain(direct, WatchHistories.from_lengths(rows, np.array([length])), 30)

    watched = list(map(Watch, map(item_id, rows.tolist()), weights.tolist(), timestamps.tolist()))
    if unknown:  # left out together with its weight and time
        watched.insert(length // 2, Watch("no such item", 5.0, 10**9))
    answer = client.recommend(watched, count=30)
    assert answer.unknown_history_count == unknown
    assert [item.item_id for item in answer.items] == expected
    ids_only = client.recommend([watch.item_id for watch in watched], count=30)
    assert [item.item_id for item in ids_only.items] == without
    assert expected != without
    ranked = client.rank(watched, [item.item_id for item in answer.items])
    np.testing.assert_allclose(
        [item.score for item in ranked.items], [item.score for item in answer.items], atol=1e-6, rtol=0
    )
    retrieved = client.retrieve(watched, count=200)
    assert {item.item_id for item in answer.items} <= {item.item_id for item in retrieved.items}


def test_winnow_recommend_sends_what_the_log_says_of_the_watches_of_a_user(
    stack: LocalStack, client: WinnowClient, tmp_path: Path
) -> None:
    rng = np.random.default_rng(3)
    watched = [item_id(row) for row in rng.permutation(ITEM_COUNT)[:12].tolist()]
    weights, timestamps = rng.integers(1, 6, 12).tolist(), rng.integers(0, 9000, 12).cumsum().tolist()
    log = tmp_path / "log.parquet"
    users = ["bob", *["ann"] * 12]
    columns = {"item_id": [item_id(1), *watched], "timestamp": [5, *timestamps], "weight": [1, *weights]}
    pl.DataFrame({"user_id": users, **columns}).write_parquet(log)
    arguments = ["recommend", f"--target={stack.gateway_target}", f"--interactions={log}", "--count=5"]

    result = CliRunner().invoke(app, [*arguments, "--user=ann"], env={"COLUMNS": "200"})
    assert result.exit_code == 0, result.output
    answer = client.recommend(list(map(Watch, watched, weights, timestamps)), count=5)
    # The last cell of each row of the table.
    shown = [line.split("│")[-2].strip() for line in result.stdout.splitlines() if line.startswith("│")]
    assert shown == [item.item_id for item in answer.items]
    assert shown != [item.item_id for item in client.recommend(watched, count=5).items]

    assert CliRunner().invoke(app, [*arguments, "--user=ann", "item-1"]).exit_code == 2
    unknown = CliRunner().invoke(app, [*arguments, "--user=eve"])
    assert unknown.exit_code != 0
    assert "the log has no user 'eve'" in str(unknown.exception)


@pytest.mark.parametrize(
    ("wrong", "field", "description"),
    [
        ({"weight": -1.0}, "weight", "is -1: a finite number of at least 0 is needed"),
        ({"weight": float("nan")}, "weight", "is nan: a finite number of at least 0 is needed"),
        ({"weight": float("inf")}, "weight", "is inf: a finite number of at least 0 is needed"),
        (
            {"time": 1_700_000_000_000},
            "timestamp_seconds",
            "is 1700000000000: seconds since 1970, before the year 10000, are needed",
        ),
    ],
)
def test_the_field_is_named(client: WinnowClient, wrong: dict[str, float], field: str, description: str) -> None:
    watched = [Watch(item_id(1), 1.0, 1), Watch(item_id(2), **wrong)]
    calls = (client.recommend, client.retrieve, lambda history: client.rank(history, [item_id(3)]))
    for call in calls:
        with pytest.raises(WinnowError) as failure:
            call(watched)
        assert failure.value.code is grpc.StatusCode.INVALID_ARGUMENT
        assert failure.value.violations == ((f"history[1].{field}", description),)


def test_weights_and_times_may_be_known_of_some_watches_only(client: WinnowClient, featured_releases: Path) -> None:
    direct = DirectRecommender(featured_releases)
    rows = np.arange(3, 9, dtype=np.int32)
    weights = np.array([4, np.nan, 0, 1, np.nan, 5], dtype=np.float32)
    timestamps = np.array([60, UNKNOWN_TIME, 0, 4_000, 9_000, UNKNOWN_TIME])
    expected = plain(direct, WatchHistories.from_lengths(rows, np.array([6]), weights, timestamps), 30)
    watched = [
        Watch(
            item_id(row),
            None if np.isnan(weight) else weight,
            None if seconds == UNKNOWN_TIME else seconds,
        )
        for row, weight, seconds in zip(rows.tolist(), weights.tolist(), timestamps.tolist(), strict=True)
    ]
    assert [item.item_id for item in client.recommend(watched, count=30).items] == expected
