"""Several candidate sources through all services: the ranking of their union, and who proposed what."""

import asyncio
import csv
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from examples.also_watched import read_followers
from tests.conftest import local_stack
from tests.end_to_end.test_stack import assert_same, eventually, random_history, stop
from tests.reference import DirectRecommender
from tests.releases import ITEM_COUNT, attributes_of, item_id, trending_items
from winnow.cli import app
from winnow.client import AsyncWinnowClient, DegradationStep, RecommendationRequest, Recommendations, WinnowClient
from winnow.serving.local_stack import LocalStack, free_port

ITEMS = attributes_of(ITEM_COUNT)
CANDIDATE_COUNT, TRENDING_COUNT, FRESH_COUNT, EXTERNAL_COUNT = 100, 5, 7, 9
TRENDING = [item_id(row) for row in trending_items(ITEM_COUNT).rows.tolist()]


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Users who watch every seventh item of the release, and one that the release does not know."""
    path = tmp_path_factory.mktemp("logs") / "log.csv"
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["user_id", "item_id", "timestamp"])
        for user in range(60):
            for position in range(20):
                item = "an item of another catalogue" if position == 10 else item_id((user + 7 * position) % ITEM_COUNT)
                writer.writerow([user, item, position])
    return path


@pytest.fixture(scope="module")
def external(log: Path) -> Iterator[str]:
    """The example's server as a process."""
    port = free_port("127.0.0.1")
    process = subprocess.Popen(
        [sys.executable, "-m", "examples.also_watched", str(log), f"--port={port}"], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    try:
        assert "have followers" in process.stdout.readline()
        yield f"127.0.0.1:{port}"
    finally:
        process.kill()
        process.communicate()


@pytest.fixture(scope="module")
def stack_of_sources(releases: Path, external: str) -> Iterator[LocalStack]:
    source = {"name": "also_watched", "target": external, "candidate_count": EXTERNAL_COUNT, "timeout_seconds": 2}
    flags = [
        f"--candidate-count={CANDIDATE_COUNT}",
        f"--trending-count={TRENDING_COUNT}",
        f"--fresh-count={FRESH_COUNT}",
        "--fresh-attribute=added",
        f"--external-sources={json.dumps([source])}",
    ]
    with local_stack(releases, gateway=flags) as running:
        with WinnowClient(running.gateway_target, timeout_seconds=10) as client:
            give_up = time.monotonic() + 30
            while not any(places(client.recommend([item_id(0)]), "also_watched")):
                assert time.monotonic() < give_up, "the external source is never asked"
        yield running


@pytest.fixture(scope="module")
def client(stack_of_sources: LocalStack) -> Iterator[WinnowClient]:
    with WinnowClient(stack_of_sources.gateway_target, timeout_seconds=10) as opened:
        yield opened


def places(answer: Recommendations, source: str) -> dict[str, int]:
    """The place of each item of an answer that the source has proposed."""
    return {item.item_id: named.place for item in answer.items for named in item.sources if named.source == source}


def value(name: str, row: int) -> Any:
    return ITEMS[name][row]


def newest() -> list[str]:
    rows = [row for row in range(ITEM_COUNT) if value("added", row) is not None]
    return [item_id(row) for row in sorted(rows, key=lambda row: value("added", row), reverse=True)]


def proposed(log: Path, history: list[str]) -> list[str]:
    """What the example proposes, computed here."""
    with log.open(newline="", encoding="utf-8") as file:
        followers = read_followers(csv.DictReader(file))
    counts: dict[str, int] = {}
    for watched in history[-10:]:
        for following, count in followers.get(watched, {}).items():
            counts[following] = counts.get(following, 0) + count
    return sorted(counts, key=lambda found: -counts[found])[:EXTERNAL_COUNT]


@pytest.mark.parametrize("seed", range(5))
def test_the_union_of_all_sources_is_ranked_as_the_plain_computation_ranks_it(
    client: WinnowClient, releases: Path, log: Path, seed: int
) -> None:
    history = random_history(seed)
    own = [item_id(row) for row in range(seed, ITEM_COUNT, 31)]
    watched = set(history)
    of_source = {
        "trending": [found for found in TRENDING if found not in watched][:TRENDING_COUNT],
        "fresh": [found for found in newest() if found not in watched][:FRESH_COUNT],
        "caller": own,
        "also_watched": proposed(log, history),
    }
    answer = client.recommend(history, count=100, candidate_item_ids=own)
    further = [found for listed in of_source.values() for found in listed]
    assert not answer.degraded
    assert_same(answer, DirectRecommender(releases).recommend(history, 100, CANDIDATE_COUNT, further=further))
    answered = {item.item_id for item in answer.items}
    for source, listed in of_source.items():
        expected = {found: place for place, found in enumerate(listed, start=1) if found in answered}
        assert places(answer, source) == expected
    for item in answer.items:
        assert item.sources, "every item was proposed by somebody"
    assert len({*places(answer, "network").values()}) == len(places(answer, "network"))


def test_filters_exclusions_and_allow_lists_hold_for_every_source(client: WinnowClient, releases: Path) -> None:
    history, direct = random_history(1), DirectRecommender(releases)
    everything = [item_id(row) for row in range(ITEM_COUNT)]
    excluded = [*TRENDING[:3], *newest()[:3]]
    answer = client.recommend(
        history,
        count=100,
        filter="year >= 2005",
        excluded_item_ids=excluded,
        candidate_item_ids=[*everything, "unknown"],
    )
    rows = {found: row for row, found in enumerate(everything)}
    assert {item.item_id for item in answer.items}.isdisjoint({*excluded, *history})
    assert all(value("year", rows[item.item_id]) >= 2005 for item in answer.items)
    assert answer.unknown_candidate_count == 1
    # With the caller's candidates, everything that may be in the answer has been ranked.
    assert_same(
        answer,
        direct.recommend(history, 100, ITEM_COUNT, excluded=excluded, matches=lambda row: value("year", row) >= 2005),
    )
    allowed = TRENDING[3:5]
    few = client.recommend(history, allowed_item_ids=allowed, candidate_item_ids=everything)
    assert {item.item_id for item in few.items} == set(allowed) - set(history)


def test_sources_are_in_batches_and_in_the_asynchronous_client_too(stack_of_sources: LocalStack) -> None:
    async def ask() -> tuple[Recommendations, list[Recommendations]]:
        async with AsyncWinnowClient(stack_of_sources.gateway_target, timeout_seconds=10) as client:
            alone = await client.recommend([item_id(3)], candidate_item_ids=[item_id(8)])
            outcomes = await client.recommend_many(
                [RecommendationRequest([item_id(3)], candidate_item_ids=[item_id(8)])] * 3
            )
            return alone, [outcome for outcome in outcomes if isinstance(outcome, Recommendations)]

    alone, together = asyncio.run(ask())
    assert [answer.items for answer in together] == [alone.items] * 3


def test_the_command_line_sends_candidates_and_shows_sources(stack_of_sources: LocalStack) -> None:
    result = CliRunner().invoke(
        app,
        [
            "recommend", item_id(1), f"--target={stack_of_sources.gateway_target}", "--count=100",
            "--candidate", item_id(40), "--candidate", "unknown",
        ],
        env={"COLUMNS": "200"},
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    assert "caller 1" in result.stdout
    assert "trending 1" in result.stdout
    assert "1 candidate ids are unknown to the release and were skipped." in result.stdout
    assert "further sources" in result.stdout


def test_without_further_sources_nothing_is_said_of_any(stack: LocalStack) -> None:
    with WinnowClient(stack.gateway_target, timeout_seconds=5) as client:
        answer = client.recommend([item_id(1)])
        assert all(item.sources == () for item in answer.items)
        assert answer.timing.sources_milliseconds is None
        own = client.recommend([item_id(1)], candidate_item_ids=[item_id(9)], count=100)
        assert places(own, "network")


def test_without_the_network_other_sources_still_propose_and_the_answer_says_that_it_is_degraded(
    stack_of_sources: LocalStack, client: WinnowClient
) -> None:
    """The last test of these services."""
    stop(stack_of_sources, "candidate_service")
    eventually(client, [item_id(1)], DegradationStep.POPULAR_RANKED)
    answer = client.recommend([item_id(1)], count=100, candidate_item_ids=[item_id(250)])
    assert answer.degradation.step is DegradationStep.POPULAR_RANKED
    assert not places(answer, "network")
    for source in ("popular", "trending", "fresh", "also_watched"):
        assert places(answer, source)
