"""Every state of a page is designed: answers, empty lists, unknown ids, gateways that are away, hostile input."""

import time
from collections.abc import Sequence
from dataclasses import replace
from html import escape
from urllib.parse import quote

import grpc
import pytest

from tests.unit.client.fake_gateway import Failure, FakeGateway, invalid_argument
from tests.unit.explorer.pages import page, pages
from winnow.client import Watch
from winnow.explorer.settings import ExplorerSettings
from winnow.rpc.violations import Violation
from winnow.v1 import catalogue_pb2, recommendation_pb2

HOSTILE = "<script>alert(1)</script>\"'><img src=x onerror=alert(2)>{{ 1234567 * 2 }}"
PATHS = ("/", "/item?id=a", "/release", "/titles?title=a")


class OneUser:
    name = "log.csv"
    some_users: Sequence[str] = ("42",)

    def watches(self, user_id: str) -> Sequence[Watch] | None:
        return [Watch("a", 4.5, 0), Watch("b", 3.0, 86_400)] if user_id == "42" else None


def test_the_watches_of_a_user_of_the_log_are_sent_with_their_weights_and_times(
    settings: ExplorerSettings, gateway: FakeGateway
) -> None:
    gateway.items = [catalogue_pb2.Item(item_id="b", title="Title B")]
    found = page(replace(settings, user_log=OneUser()), "/?user=42&source=log&watch=c")
    assert found.status == 200
    assert "Title B" in found.text
    assert "1970-01-02" in found.text
    [request] = [
        request for request in gateway.requests if isinstance(request, recommendation_pb2.RecommendItemsRequest)
    ]
    assert [(watch.item_id, watch.weight) for watch in request.history] == [("a", 4.5), ("b", 3.0), ("c", 0.0)]


def test_filter_caps_and_diversity_are_asked_for(settings: ExplorerSettings, gateway: FakeGateway) -> None:
    page(settings, "/?filter=year+%3E+3&caps=genres%3D2&diversity=0.5&count=7")
    [request] = [
        request for request in gateway.requests if isinstance(request, recommendation_pb2.RecommendItemsRequest)
    ]
    assert (request.filter, request.diversity, request.item_count) == ("year > 3", 0.5, 7)
    assert [(cap.attribute, cap.max_count) for cap in request.caps] == [("genres", 2)]


def test_a_degraded_answer_says_so(settings: ExplorerSettings, gateway: FakeGateway) -> None:
    gateway.response = recommendation_pb2.RecommendItemsResponse(
        degradation=recommendation_pb2.Degradation(
            step=recommendation_pb2.DEGRADATION_STEP_CANDIDATE_ORDER, reason="ranking: UNAVAILABLE"
        )
    )
    found = page(settings, "/")
    assert "Ranking gave no answer" in found.text
    assert "ranking: UNAVAILABLE" in found.text


def test_sources_moves_and_the_experiment_arm_are_named(settings: ExplorerSettings, gateway: FakeGateway) -> None:
    gateway.response = recommendation_pb2.RecommendItemsResponse(
        items=[
            recommendation_pb2.ScoredItem(
                item_id="a",
                sources=[recommendation_pb2.ItemSource(source="trending", place=3)],
                move=recommendation_pb2.Move(reasons=[recommendation_pb2.MOVE_REASON_DIVERSITY], ranked_position=17),
            )
        ],
        experiment_arm="bolder",
    )
    found = page(settings, "/")
    assert '<span class="tag">trending 3</span>' in found.text
    assert "Experiment arm <strong>bolder</strong>" in found.text
    assert "ranked 17: diversity" in found.text


def test_an_empty_answer_is_not_an_empty_page(settings: ExplorerSettings) -> None:
    found = page(settings, "/?filter=year+%3E+3")
    assert "No item matches. Is the filter too narrow?" in found.text
    assert "Nothing was retrieved." in found.text
    assert "No watches yet." in found.text


def test_a_user_that_the_log_does_not_have(settings: ExplorerSettings) -> None:
    found = page(replace(settings, user_log=OneUser()), "/?user=7&source=log")
    assert found.status == 404
    assert "log.csv has no user “7”." in found.text


def test_a_title_that_nothing_has(settings: ExplorerSettings) -> None:
    found = page(settings, "/titles?title=zzz")
    assert "No title contains “zzz”." in found.text


def test_a_part_of_a_page_is_no_page(settings: ExplorerSettings, gateway: FakeGateway) -> None:
    gateway.items = [catalogue_pb2.Item(item_id="b", title="Title B")]
    whole, part = page(settings, "/titles?title=tit"), page(settings, "/titles?title=tit", hx_request="true")
    assert "<html" in whole.text
    assert "<html" not in part.text
    assert "Title B" in whole.text
    assert "Title B" in part.text


@pytest.mark.parametrize("path", PATHS)
def test_a_gateway_that_is_away(path: str) -> None:
    found = page(ExplorerSettings(targets=("127.0.0.1:1",), timeout_seconds=2), path)
    assert found.status == 502
    assert "The gateway does not answer" in found.text
    assert "Traceback" not in found.text


@pytest.mark.parametrize("path", PATHS)
def test_a_gateway_that_is_slow(path: str, settings: ExplorerSettings, gateway: FakeGateway) -> None:
    gateway.on_request = lambda: time.sleep(0.2)
    found = page(replace(settings, timeout_seconds=0.05), path)
    assert found.status == 504
    assert "The gateway is slow" in found.text


def test_what_the_gateway_refuses_is_said_at_its_field(settings: ExplorerSettings, gateway: FakeGateway) -> None:
    violation = Violation("filter", "at character 6: a value is expected")
    gateway.failures = [invalid_argument([violation])] * 8
    found = page(settings, "/?filter=year+%3E")
    assert found.status == 400
    assert '<p class="problem" id="problem-filter">at character 6: a value is expected</p>' in found.text


@pytest.mark.parametrize(
    ("code", "heading"),
    [
        (grpc.StatusCode.UNAUTHENTICATED, "wants a token"),
        (grpc.StatusCode.UNIMPLEMENTED, "does not know this call"),
        (grpc.StatusCode.RESOURCE_EXHAUSTED, "is overloaded"),
        (grpc.StatusCode.INTERNAL, "The call has failed"),
    ],
)
def test_other_failures_have_words_too(
    code: grpc.StatusCode, heading: str, settings: ExplorerSettings, gateway: FakeGateway
) -> None:
    gateway.failures = [Failure(code, "no")] * 8
    found = page(settings, "/")
    assert found.status == 502
    assert heading in found.text


def test_a_user_of_a_store_that_there_is_not(settings: ExplorerSettings) -> None:
    found = page(settings, "/?user=42&source=store")
    assert found.status == 502
    assert "does not know this call" in found.text  # this gateway has no service of users


HOSTILE_PATHS = (
    "/?watch={}",
    "/?filter={}",
    "/?caps={}",
    "/?diversity={}&count={}",
    "/?user={}&source=log",
    "/item?id={}&filter={}",
    "/titles?title={}&purpose={}",
    "/health?refresh={}",
    "/{}",
)


def test_input_is_escaped(settings: ExplorerSettings, gateway: FakeGateway) -> None:
    gateway.items = [catalogue_pb2.Item(item_id=HOSTILE, title=HOSTILE, attributes={HOSTILE: HOSTILE})]
    paths = [path.replace("{}", quote(HOSTILE)) for path in HOSTILE_PATHS]
    for path, found in zip(paths, pages(replace(settings, user_log=OneUser()), paths), strict=True):
        assert "<script>alert" not in found.text, path
        assert "<img" not in found.text, path
        assert "2469134" not in found.text, path


def test_what_gateways_answer_is_escaped(settings: ExplorerSettings, gateway: FakeGateway) -> None:
    gateway.items = [catalogue_pb2.Item(item_id="a", title=HOSTILE, attributes={HOSTILE: HOSTILE})]
    gateway.failures = [Failure(grpc.StatusCode.INTERNAL, HOSTILE)]
    for found in pages(settings, ["/item?id=a", "/?watch=a", "/titles?title=script"]):
        assert "<script>alert" not in found.text
        assert escape(HOSTILE)[:40] in found.text.replace("&#34;", "&quot;").replace("&#39;", "&#x27;")


def test_every_answer_forbids_scripts_of_others(settings: ExplorerSettings) -> None:
    for found in pages(settings, ["/", "/health", "/static/style.css", "/nowhere", "/static/nothing.js"]):
        policy = found.headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
        assert found.headers["x-content-type-options"] == "nosniff"


def test_pages_have_no_inline_script_or_style(settings: ExplorerSettings) -> None:
    for found in pages(settings, ["/", "/item?id=a", "/release", "/health", "/titles"]):
        assert " style=" not in found.text
        assert "<style" not in found.text
        assert found.text.count("<script") == 1
        assert "http://" not in found.text.replace(settings.targets[0], "")
        assert "https://" not in found.text


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH"])
def test_it_is_read_only(method: str, settings: ExplorerSettings, gateway: FakeGateway) -> None:
    assert page(settings, "/", method=method).status == 405
    assert gateway.requests == []


def test_an_address_that_is_too_long_is_refused_before_anything_is_asked(
    settings: ExplorerSettings, gateway: FakeGateway
) -> None:
    found = page(settings, "/?filter=" + "x" * 9_000)
    assert found.status == 414
    assert "The address is too long" in found.text
    assert gateway.requests == []


def test_a_defect_of_the_explorer_is_a_page_too(settings: ExplorerSettings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("winnow.explorer.pages.suggested_filters", lambda *_: 1 / 0)
    found = page(settings, "/")
    assert found.status == 500
    assert "This page has failed" in found.text
    assert "ZeroDivisionError" not in found.text
    assert "content-security-policy" in found.headers


def test_other_names_are_refused(settings: ExplorerSettings, gateway: FakeGateway) -> None:
    assert page(settings, "/", host="evil.example").status == 400
    assert gateway.requests == []
    assert page(replace(settings, allowed_hosts=("tools.example",)), "/", host="tools.example:8050").status == 200


def test_two_gateways_are_compared(settings: ExplorerSettings, gateway: FakeGateway) -> None:
    gateway.response = recommendation_pb2.RecommendItemsResponse(
        items=[recommendation_pb2.ScoredItem(item_id=item_id) for item_id in "ab"], release_id="one"
    )
    found = page(replace(settings, targets=(gateway.target, gateway.target)), "/compare")
    assert "Both answers are the same." in found.text
    assert "serve the same release" in found.text


def test_one_of_two_gateways_is_away(settings: ExplorerSettings, gateway: FakeGateway) -> None:
    found = page(replace(settings, targets=(gateway.target, "127.0.0.1:1")), "/compare")
    assert found.status == 502
    assert "The gateway does not answer" in found.text
    assert "No item matches." in found.text


@pytest.mark.parametrize("seconds", [-(2**62), -253_402_300_800, -62_135_596_801, 253_402_300_799])
def test_a_watch_of_any_time_is_shown(settings: ExplorerSettings, gateway: FakeGateway, seconds: int) -> None:
    class LongAgo(OneUser):
        def watches(self, _user_id: str) -> Sequence[Watch]:
            return [Watch("a", 1.0, seconds)]

    gateway.response = recommendation_pb2.ExplainItemResponse(
        contributions=[
            recommendation_pb2.WatchContribution(position=position, item_id="a") for position in (0, 99, -99)
        ]
    )
    for path in ("/?user=42&source=log", "/item?id=b&user=42&source=log"):
        assert page(replace(settings, user_log=LongAgo()), path).status == 200
