"""`winnow recommend` finds the titles that are meant, sends what is known of a history, and says what is wrong once."""

from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest
from typer.testing import CliRunner, Result

from tests.unit.client.fake_gateway import Failure, FakeGateway, fake_gateway, invalid_argument
from winnow.cli import app
from winnow.client import Violation
from winnow.serving.local_stack import free_port
from winnow.v1 import catalogue_pb2, recommendation_pb2

# 25 items with a number each, the most popular first: 31 before 3.
NUMBERS = [31, 30, 3, *range(4, 26)]


@pytest.fixture
def gateway() -> Iterator[FakeGateway]:
    with fake_gateway() as running:
        running.items = [catalogue_pb2.Item(item_id=f"sku-{n}", title=f"Kaffee Nr. {n}") for n in NUMBERS]
        running.response = recommendation_pb2.RecommendItemsResponse(
            items=[recommendation_pb2.ScoredItem(item_id="sku-4", score=0.5)],
            release_id="release-1",
            retrieved_count=200,
            ranked_count=150,
            degradation=recommendation_pb2.Degradation(step=recommendation_pb2.DEGRADATION_STEP_NONE),
            timing=recommendation_pb2.Timing(total_microseconds=9500, rank_microseconds=3000),
            recommendation_id="01980000-0000-7000-8000-000000000001",
        )
        yield running


def recommend(gateway: FakeGateway, *arguments: str) -> Result:
    return CliRunner().invoke(app, ["recommend", f"--target={gateway.target}", *arguments], env={"COLUMNS": "200"})


def history_sent(gateway: FakeGateway) -> list[str]:
    (request,) = [
        request for request in gateway.requests if isinstance(request, recommendation_pb2.RecommendItemsRequest)
    ]
    return [watch.item_id for watch in request.history]


def test_an_equal_title_is_preferred_to_more_popular_ones_that_contain_it(gateway: FakeGateway) -> None:
    result = recommend(gateway, "--title", "kaffee nr. 3")
    assert result.exit_code == 0, result.output
    assert history_sent(gateway) == ["sku-3"]
    assert "Watched: Kaffee Nr. 3\n" in result.stdout
    assert result.stderr == ""


def test_an_equal_title_is_found_on_a_later_page(gateway: FakeGateway) -> None:
    gateway.items = [
        *(catalogue_pb2.Item(item_id=f"other-{n}", title=f"Alien {n}") for n in range(250)),
        catalogue_pb2.Item(item_id="the one", title="Alien"),
    ]
    assert recommend(gateway, "--title", "Alien").exit_code == 0
    assert history_sent(gateway) == ["the one"]


TITLES = {
    "inside": "Inkognito",
    "begins": "Nitonen",
    "words": "Der Nito, neu",
    "begins with the words": "Nito: the film",
    "equal": "NITO",
}


@pytest.mark.parametrize("known", [list(TITLES)[:count] for count in range(1, 6)])
def test_equal_titles_are_preferred_to_whole_words_and_these_to_parts_of_words(
    gateway: FakeGateway, known: list[str]
) -> None:
    # The best match is the least popular item.
    gateway.items = [catalogue_pb2.Item(item_id=name, title=TITLES[name]) for name in known]
    result = recommend(gateway, "--title", "nito")
    assert history_sent(gateway) == known[-1:]
    assert result.stderr == ""


def test_other_items_that_match_as_well_are_named(gateway: FakeGateway) -> None:
    result = recommend(gateway, "--title", "kaffee nr. 1")
    assert history_sent(gateway) == ["sku-10"]
    assert result.stderr == (
        "--title 'kaffee nr. 1' matches several items: 'Kaffee Nr. 10' (sku-10) was taken, the others are "
        "'Kaffee Nr. 11' (sku-11), 'Kaffee Nr. 12' (sku-12), 'Kaffee Nr. 13' (sku-13), ...\n"
    )


def test_ids_come_before_titles(gateway: FakeGateway) -> None:
    recommend(gateway, "sku-5", "sku-6", "--title", "Kaffee Nr. 3", "--title", "Kaffee Nr. 4")
    assert history_sent(gateway) == ["sku-5", "sku-6", "sku-3", "sku-4"]


def test_a_title_that_no_item_has_is_named(gateway: FakeGateway) -> None:
    result = recommend(gateway, "--title", "Tee")
    assert result.exit_code == 1
    assert str(result.exception) == "winnow recommend: no title contains 'Tee'"


def test_the_answer_is_printed_with_its_times(gateway: FakeGateway) -> None:
    result = recommend(gateway, "sku-5", "no such item")
    assert "Watched: Kaffee Nr. 5, no such item (unknown)" in result.stdout
    assert "Release release-1, 150 of 200 candidates ranked\n9.5 ms: ranking 3.0\n" in result.stdout
    assert "Recommendation 01980000-0000-7000-8000-000000000001\n" in result.stdout
    assert "Degraded" not in result.stdout


def test_ids_and_titles_cannot_command_the_terminal(gateway: FakeGateway) -> None:
    gateway.items = [catalogue_pb2.Item(item_id="sku-4", title="\x1b]0;title\x07 4:smile:\u202e")]
    result = recommend(gateway, "\x1b[31m", "sku-4")
    assert "Watched: \\x1b[31m (unknown), \\x1b]0;title\\x07 4:smile:\\u202e" in result.stdout
    assert "\x1b" not in result.stdout


def test_candidates_are_sent_and_the_sources_of_each_item_shown(gateway: FakeGateway) -> None:
    assert "sources" not in recommend(gateway, "sku-5").stdout
    for source, place in (("network", 7), ("caller", 2)):
        gateway.response.items[0].sources.add(source=source, place=place)
    gateway.response.unknown_candidate_count = 1
    gateway.requests.clear()
    result = recommend(gateway, "sku-5", "--candidate", "sku-7", "--candidate", "sku-4")
    assert result.exit_code == 0, result.output
    assert list(gateway.requests[0].candidate_item_ids) == ["sku-7", "sku-4"]
    assert "network 7, caller 2" in result.stdout
    assert "1 candidate ids are unknown to the release and were skipped." in result.stdout


def test_a_degraded_answer_says_so(gateway: FakeGateway) -> None:
    gateway.response.degradation.step = recommendation_pb2.DEGRADATION_STEP_CANDIDATE_ORDER
    gateway.response.degradation.reason = "ranking: UNAVAILABLE"
    assert "Degraded: CANDIDATE_ORDER (ranking: UNAVAILABLE)" in recommend(gateway, "sku-5").stdout


def test_the_history_of_a_user_of_any_length_is_sent_with_weights_and_times(
    gateway: FakeGateway, tmp_path: Path
) -> None:
    log = tmp_path / "log.csv"
    rows = [f"ann,sku-{n},{1_000 + n},{n % 5}" for n in range(1_200)]
    log.write_text("\n".join(["user_id,item_id,timestamp,weight", *rows, "bob,sku-1,5,1"]))
    result = recommend(gateway, f"--interactions={log}", "--user=ann")
    assert result.exit_code == 0, result.output
    assert list(gateway.requests[0].history) == [
        recommendation_pb2.Watch(item_id=f"sku-{n}", weight=n % 5, timestamp_seconds=1_000 + n)
        for n in range(200, 1_200)
    ]
    assert "Watched: 992 more, then sku-1192 (unknown)" in result.stdout


def test_a_log_of_another_format_is_read_for_one_user_and_for_all(gateway: FakeGateway, tmp_path: Path) -> None:
    log = tmp_path / "orders.tsv"
    log.write_text("Customer\tSKU\tWhen\nann\tsku-1\t5000\nann\tsku-2\tsoon\nbob\tsku-3\t6000\n")
    options = ["--user-column=customer", "--item-column=sku", "--time-column=when", "--time-unit=milliseconds"]
    options.append("--skip-bad-rows")
    skipped = "Rows that cannot be read and are left out: 1 of 3. The first:\n  line 3: column When: 'soon' must be"
    one = recommend(gateway, f"--interactions={log}", "--user=ann", *options)
    assert one.exit_code == 0, one.output
    assert skipped in one.stderr
    assert list(gateway.requests[0].history) == [
        recommendation_pb2.Watch(item_id="sku-1", weight=1, timestamp_seconds=5)
    ]
    everyone = recommend(gateway, f"--users={log}", f"--output={tmp_path / 'out.parquet'}", *options)
    assert everyone.exit_code == 0, everyone.output
    assert skipped in everyone.stderr
    assert "2 users" in everyone.stderr


def test_each_violation_is_printed_once(gateway: FakeGateway) -> None:
    gateway.failures = [
        invalid_argument([Violation("history[0].item_id", "is empty"), Violation("history[2].item_id", "is empty")])
    ]
    result = recommend(gateway, "", "x", "")
    assert result.exit_code == 1
    assert result.stderr == (
        "winnow recommend: the gateway refused the request: history[0].item_id is empty\n"
        "winnow recommend: the gateway refused the request: history[2].item_id is empty\n"
    )


def test_another_failure_is_printed_as_the_gateway_tells_it(gateway: FakeGateway) -> None:
    gateway.failures = [Failure(grpc.StatusCode.RESOURCE_EXHAUSTED, "the queue is full [/red]")]
    assert recommend(gateway).stderr == "winnow recommend: RESOURCE_EXHAUSTED: the queue is full [/red]\n"


@pytest.mark.parametrize("count", ["0", "101"])
def test_a_count_that_no_answer_can_have_is_refused(gateway: FakeGateway, count: str) -> None:
    result = recommend(gateway, f"--count={count}")
    assert result.exit_code == 2
    assert "Invalid value for '--count'" in result.stderr
    assert gateway.requests == []


@pytest.mark.parametrize(
    "arguments",
    [["--user=ann"], ["--interactions=log.csv"], ["--interactions=log.csv", "--user=ann", "sku-1"]],
)
def test_a_history_comes_from_one_place(gateway: FakeGateway, arguments: list[str]) -> None:
    result = recommend(gateway, *arguments)
    assert result.exit_code == 2
    assert "--interactions and --user go together" in result.stderr


def test_a_filter_and_allowed_ids_are_sent(gateway: FakeGateway) -> None:
    result = recommend(gateway, "sku-3", "--filter", "year >= 1990", "--allow", "sku-4", "--allow", "sku-5")
    assert result.exit_code == 0, result.output
    assert gateway.requests[0].filter == "year >= 1990"
    assert list(gateway.requests[0].allowed_item_ids) == ["sku-4", "sku-5"]


def test_caps_pinned_items_and_diversity_are_sent_and_moves_are_shown(gateway: FakeGateway) -> None:
    gateway.response.items[0].move.reasons.append(recommendation_pb2.MOVE_REASON_OTHERS_CAPPED)
    gateway.response.items[0].move.ranked_position = 12
    pinned = recommendation_pb2.ScoredItem(
        item_id="a@b", move=recommendation_pb2.Move(reasons=[recommendation_pb2.MOVE_REASON_PINNED])
    )
    gateway.response.items.append(pinned)
    gateway.response.unknown_pinned_count = 1
    gateway.response.excluded_pinned_count = 2
    result = recommend(
        gateway, "sku-3", "--cap", "genres=2", "--cap", "a=b=1", "--pin", "a@b@2", "--pin", "x@1", "--diversity", "0.25"
    )
    assert result.exit_code == 0, result.output
    (request,) = [one for one in gateway.requests if isinstance(one, recommendation_pb2.RecommendItemsRequest)]
    assert [(cap.attribute, cap.max_count) for cap in request.caps] == [("genres", 2), ("a=b", 1)]
    assert [(pin.item_id, pin.position) for pin in request.pinned_items] == [("a@b", 2), ("x", 1)]
    assert request.diversity == 0.25
    assert "others capped (ranked 12)" in result.stdout
    assert "pinned (no candidate)" in result.stdout
    assert "1 pinned ids are unknown" in result.stdout
    assert "2 pinned items are watched, excluded or do not match" in result.stdout


@pytest.mark.parametrize(
    "arguments",
    [["--cap", "genres"], ["--cap", "=2"], ["--cap", "genres=-1"], ["--cap", "genres=²"], ["--cap", "g=" + "9" * 5000],
     ["--pin", "sku-1"], ["--pin", "sku-1@first"], ["--cap", "a=1", "--cap", "a=2"]],
)  # fmt: skip
def test_a_cap_or_pin_that_cannot_be_read_is_an_error_of_usage(gateway: FakeGateway, arguments: list[str]) -> None:
    result = recommend(gateway, "sku-3", *arguments)
    assert result.exit_code == 2
    assert gateway.requests == []


def test_what_is_wrong_with_a_filter_is_printed_as_the_gateway_says_it(gateway: FakeGateway) -> None:
    wrong = "character 6: unexpected end; expected an operator [= <]"
    gateway.failures = [invalid_argument([Violation("filter", wrong)])]
    result = recommend(gateway, "sku-3", "--filter", "year")
    assert result.exit_code == 1
    assert result.stderr == f"winnow recommend: the gateway refused the request: filter {wrong}\n"


def test_the_schema_is_printed(gateway: FakeGateway) -> None:
    result = CliRunner().invoke(app, ["schema", f"--target={gateway.target}"], env={"COLUMNS": "200"})
    assert result.exit_code == 0, result.output
    assert [line.strip("│ ").split() for line in result.stdout.splitlines() if "│" in line] == [
        ["year", "│", "number", "│", "7"],
        ["genres", "│", "list", "│", "8", "│", "0"],
    ]
    assert "Release release-1, 9 items" in result.stdout


def test_a_schema_that_cannot_be_asked_for_is_explained(gateway: FakeGateway) -> None:
    gateway.failures = [Failure(grpc.StatusCode.RESOURCE_EXHAUSTED, "too much work is waiting")]
    result = CliRunner().invoke(app, ["schema", f"--target={gateway.target}"])
    assert result.exit_code == 1
    assert "winnow schema: RESOURCE_EXHAUSTED: too much work is waiting" in result.stderr


def test_every_user_of_a_log_is_written_to_a_file(gateway: FakeGateway, tmp_path: Path) -> None:
    log, output = tmp_path / "log.csv", tmp_path / "out.parquet"
    log.write_text("user_id,item_id,timestamp\nann,sku-1,1\nbob,bad,2\nann,sku-2,3\n")
    options = ("--count=7", "--require-ranked", "--cap=genres=2", "--pin=x@1", "--diversity=0.5")
    result = recommend(gateway, f"--users={log}", f"--output={output}", *options)
    assert result.exit_code == 0, result.output
    assert f"{output}: 1 users\nINVALID_ARGUMENT: 1 users, see the column `error`\n" in result.stderr
    (batch,) = gateway.requests
    assert [(request.item_count, request.require_ranked) for request in batch.requests] == [(7, True)] * 2
    for request in batch.requests:
        assert [(cap.attribute, cap.max_count) for cap in request.caps] == [("genres", 2)]
        assert [(pin.item_id, pin.position) for pin in request.pinned_items] == [("x", 1)]
        assert request.diversity == 0.5
    assert output.exists()


@pytest.mark.parametrize(
    "arguments",
    [["--users=log.csv"], ["--output=out.parquet"], ["--users=log.csv", "--output=out.parquet", "sku-1"]],
)
def test_users_and_output_go_together(gateway: FakeGateway, arguments: list[str]) -> None:
    result = recommend(gateway, *arguments)
    assert result.exit_code == 2
    assert "--users and --output go together" in result.stderr


def test_a_log_that_cannot_be_read_is_one_line(gateway: FakeGateway, tmp_path: Path) -> None:
    result = recommend(gateway, f"--users={tmp_path / 'none.csv'}", f"--output={tmp_path / 'out.parquet'}")
    assert result.exit_code == 1
    assert "none.csv" in result.stderr
    assert len(result.stderr.splitlines()) == 1


def test_where_nothing_listens_the_way_on_is_named() -> None:
    result = CliRunner().invoke(app, ["recommend", "x", f"--target=127.0.0.1:{free_port('127.0.0.1')}"])
    assert result.exit_code == 1
    assert "UNAVAILABLE" in result.stderr
    assert "Is `winnow serve` running, and --target its address?" in result.stderr
