"""`winnow similar` and `winnow explain` send what was meant and print what a person can read."""

from collections.abc import Iterator

import pytest
from typer.testing import CliRunner, Result

from tests.unit.client.fake_gateway import FakeGateway, fake_gateway, invalid_argument
from winnow.cli import app
from winnow.client import Violation
from winnow.v1 import catalogue_pb2, recommendation_pb2
from winnow.v1.recommendation_pb2 import RankingExplanation, RetrievalExplanation, WatchContribution


@pytest.fixture
def gateway() -> Iterator[FakeGateway]:
    with fake_gateway() as running:
        running.items = [catalogue_pb2.Item(item_id=f"sku-{n}", title=f"Kaffee Nr. {n}") for n in range(1, 10)]
        yield running


def run(gateway: FakeGateway, command: str, *arguments: str) -> Result:
    return CliRunner().invoke(app, [command, f"--target={gateway.target}", *arguments], env={"COLUMNS": "200"})


def explained(gateway: FakeGateway, **fields: object) -> str:
    gateway.response = recommendation_pb2.ExplainItemResponse(release_id="release-1", **fields)  # type: ignore[arg-type]
    result = run(gateway, "explain", "sku-1", "--title", "Nr. 2", "--item", "sku-3")
    assert result.exit_code == 0, result.output
    return result.stdout


def test_similar_items_are_printed_with_their_titles(gateway: FakeGateway) -> None:
    gateway.response = recommendation_pb2.SimilarItemsResponse(
        items=[recommendation_pb2.ScoredItem(item_id="sku-4", score=0.5)],
        release_id="release-1",
        candidate_source=recommendation_pb2.CANDIDATE_SOURCE_NETWORK,
    )
    result = run(gateway, "similar", "sku-1", "sku-99", "--title", "nr. 2", "--count=3", "--filter=year > 1990")
    assert result.exit_code == 0, result.output
    assert "Similar to: Kaffee Nr. 1, sku-99 (unknown), Kaffee Nr. 2" in result.stdout
    assert "Kaffee Nr. 4" in result.stdout
    [request] = [sent for sent in gateway.requests if isinstance(sent, recommendation_pb2.SimilarItemsRequest)]
    assert (list(request.item_ids), request.item_count) == (["sku-1", "sku-99", "sku-2"], 3)
    assert request.filter == "year > 1990"


def test_a_candidate_is_explained_in_a_few_lines(gateway: FakeGateway) -> None:
    output = explained(
        gateway,
        retrieval=RetrievalExplanation(
            place=12,
            score=5.25,
            cut_score=1.5,
            score_type=recommendation_pb2.SCORE_TYPE_CANDIDATE_LOGIT,
            retrieved_count=200,
        ),
        ranking=RankingExplanation(
            score=0.25, score_type=recommendation_pb2.SCORE_TYPE_WATCH_PROBABILITY, place=3, ranked_count=200
        ),
        contributions=[WatchContribution(position=1, item_id="sku-2", candidate_logit=0.5, ranking_score=-0.125)],
    )
    assert "Item: Kaffee Nr. 3" in output
    assert "Retrieval: place 12 of 200 candidates; logit 5.25, the last candidate has 1.5" in output
    assert "Ranking: place 3 of 200; probability 0.25" in output
    [line] = [line for line in output.splitlines() if "Kaffee Nr. 2" in line]
    assert "+0.5" in line
    assert "-0.125" in line


def test_why_an_item_is_no_candidate(gateway: FakeGateway) -> None:
    output = explained(
        gateway,
        retrieval=RetrievalExplanation(
            absence_reasons=[recommendation_pb2.ABSENCE_REASON_WATCHED, recommendation_pb2.ABSENCE_REASON_FILTERED],
            unmet_conditions=["year >= 2000"],
            score=5.25,
            score_type=recommendation_pb2.SCORE_TYPE_CANDIDATE_LOGIT,
        ),
        ranking=RankingExplanation(
            score=12.5, score_type=recommendation_pb2.SCORE_TYPE_WATCH_SECONDS, place=3, ranked_count=200
        ),
    )
    assert "no candidate: it was watched, it does not match the filter (year >= 2000); logit 5.25\n" in output
    assert "Ranking: would be place 3 among 200 candidates; expected seconds 12.5" in output


def test_an_unknown_item(gateway: FakeGateway) -> None:
    unknown = RetrievalExplanation(absence_reasons=[recommendation_pb2.ABSENCE_REASON_UNKNOWN])
    output = explained(gateway, retrieval=unknown)
    assert "Retrieval: no candidate: the release does not know it\n" in output
    assert "Ranking" not in output


@pytest.mark.parametrize(
    "arguments", [("sku-1",), ("--item=a", "--item-title=b"), ("--item=a", "--user=1"), ("--item=a", "--watches=51")]
)
def test_arguments_that_do_not_go_together_are_refused(gateway: FakeGateway, arguments: tuple[str, ...]) -> None:
    assert run(gateway, "explain", *arguments).exit_code == 2
    assert not gateway.requests


@pytest.mark.parametrize(("command", "arguments"), [("similar", ("a",)), ("explain", ("--item=a",))])
def test_what_the_gateway_refuses_is_said_once(gateway: FakeGateway, command: str, arguments: tuple[str, ...]) -> None:
    gateway.failures = [invalid_argument([Violation("filter", "character 1: wrong")])]
    result = run(gateway, command, *arguments)
    assert result.exit_code == 1
    assert f"winnow {command}: the gateway refused the request: filter character 1: wrong" in result.output
