"""`winnow items` under traffic: services move to the derived release and never show what is retired."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from tests.conftest import local_stack
from tests.end_to_end.test_release_swap import FAST_SWAPS, SERVICES
from tests.end_to_end.test_stack import assert_same, random_history, stop
from tests.reference import DirectRecommender
from tests.releases import ITEM_COUNT, item_id, write_random_release
from tests.traffic import assert_unmixed, steady_traffic
from winnow.client import AbsenceReason, DegradationStep, RecommendationRequest, WinnowClient
from winnow.commands.items import items
from winnow.release.reader import current_release_id
from winnow.serving.local_stack import LocalStack

RETIRED = [item_id(row) for row in (0, 1, 2, 150)]
NEW = [f"new {number}" for number in range(3)]
HISTORIES = [random_history(seed) for seed in range(12)]


@dataclass(frozen=True)
class Derived:
    """A stack that has moved from a release to one that was derived from it, under traffic."""

    stack: LocalStack
    before: DirectRecommender
    after: DirectRecommender


@pytest.fixture(scope="module")
def derived(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Derived]:
    releases: Path = tmp_path_factory.mktemp("derived-releases")
    first = write_random_release(releases, takes_new_items=True)
    file = releases.parent / "changed.csv"
    lines = [f"{name},Made in 2031,2031,Comedy" for name in NEW] + [f"{item_id(3)},Renamed,2031,Drama"]
    file.write_text("\n".join(["item_id,title,year,genres", *lines]) + "\n")
    app = typer.Typer()
    app.command()(items)
    with local_stack(releases, all=FAST_SWAPS) as stack:
        with steady_traffic(stack.gateway_target, HISTORIES, timeout_seconds=5) as traffic:
            retire = [argument for retired in RETIRED for argument in ("--retire", retired)]
            arguments = ["--releases", str(releases), "--items", str(file), *retire, "--publish"]
            result = CliRunner().invoke(app, arguments, catch_exceptions=False)
            assert result.exit_code == 0, result.output
            second = current_release_id(releases)
            traffic.wait_for_release(second)
        before, after = (DirectRecommender(releases, release_id) for release_id in (first, second))
        assert {answer.release_id for answer in traffic.answers()} == {first, second}
        assert_unmixed(traffic, {first: before, second: after})
        yield Derived(stack, before, after)


@pytest.fixture
def client(derived: Derived) -> Iterator[WinnowClient]:
    with WinnowClient(derived.stack.gateway_target, timeout_seconds=10) as opened:
        yield opened


def test_answers_are_those_of_the_plain_computation_on_the_derived_release(
    client: WinnowClient, derived: Derived
) -> None:
    """With new and retired items in the histories, too."""
    for seed in range(6):
        history = [*random_history(seed), RETIRED[seed % 4], NEW[seed % 3]]
        answer = client.recommend(history, count=50)
        assert answer.unknown_history_count == 0
        assert not answer.degraded
        assert_same(answer, derived.after.recommend(history, 50))


def test_retired_items_never_come_back(client: WinnowClient) -> None:
    every_history = [[], ["unknown"], [item_id(9)], [*RETIRED, item_id(4)]]
    for history in every_history:
        for filter_ in ("", "year >= 1900", 'title = "Title 0"', 'title = "Title 0" OR year = 2031'):
            for answered in (
                client.recommend(history, count=100, filter=filter_, include_watched=True).items,
                client.retrieve(history, count=1000, filter=filter_, include_watched=True).items,
            ):
                assert not {item.item_id for item in answered} & set(RETIRED)
        allowed = client.recommend(history, count=10, allowed_item_ids=[*RETIRED, item_id(8)], include_watched=True)
        assert [item.item_id for item in allowed.items] == [item_id(8)]
    everything = client.retrieve([item_id(9)], count=1000, include_watched=True).items
    assert len(everything) == ITEM_COUNT + len(NEW) - len(RETIRED)


def test_retired_items_are_neither_pinned_nor_proposed_by_the_caller(client: WinnowClient) -> None:
    pinned = client.recommend([item_id(9)], count=10, pinned_items={RETIRED[0]: 1, NEW[0]: 2})
    assert pinned.items[1].item_id == NEW[0]
    assert RETIRED[0] not in {item.item_id for item in pinned.items}
    answer = client.recommend([item_id(9)], count=100, candidate_item_ids=[*RETIRED, item_id(8)])
    assert not {item.item_id for item in answer.items} & set(RETIRED)


def test_a_retired_item_is_explained_as_such(client: WinnowClient) -> None:
    asked = RecommendationRequest([item_id(9)])
    explained = client.explain(asked, RETIRED[0])
    assert explained.retrieval.absence_reasons == (AbsenceReason.RETIRED,)
    assert AbsenceReason.RETIRED not in client.explain(asked, NEW[0]).retrieval.absence_reasons
    similar = client.similar([item_id(9)], count=100)
    assert not {item.item_id for item in similar.items} & set(RETIRED)


def test_new_items_are_recommended_filtered_and_searched(client: WinnowClient) -> None:
    found = client.recommend([item_id(9)], count=10, filter="year = 2031")
    assert {item.item_id for item in found.items} == {*NEW, item_id(3)}
    assert client.items([NEW[0], RETIRED[0]]).by_id[NEW[0]].title == "Made in 2031"
    assert client.items([RETIRED[0]]).by_id[RETIRED[0]].title == "Title 0"
    assert {item.item_id for item in client.search("made in").items} == set(NEW)
    assert [item.item_id for item in client.search("renamed").items] == [item_id(3)]
    assert not client.search("Title 150").items


def test_without_the_candidate_stage_popular_items_are_not_retired_ones(derived: Derived) -> None:
    with WinnowClient(derived.stack.gateway_target, timeout_seconds=10) as client:
        stop(derived.stack, SERVICES[0])
        popular = client.recommend([item_id(9)], count=5)
        assert popular.degradation.step in (DegradationStep.POPULAR, DegradationStep.POPULAR_RANKED)
        everything = client.recommend([item_id(9)], count=100, filter="year >= 1990")
        for answer in (popular, everything):
            assert not {item.item_id for item in answer.items} & set(RETIRED)
        assert len(everything.items) == 100
