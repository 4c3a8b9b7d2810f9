"""Caps, pinned items and diversity through all services, and clear errors for what cannot be asked."""

import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import grpc
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.conftest import local_stack
from tests.end_to_end.test_stack import assert_same, random_history
from tests.reference import DirectRecommender
from tests.releases import ATTRIBUTE_TYPES, ITEM_COUNT, attributes_of, item_id
from winnow.client import (
    DegradationStep,
    Move,
    MoveReason,
    RecommendationRequest,
    Recommendations,
    WinnowClient,
    WinnowError,
)
from winnow.v1 import recommendation_pb2, recommendation_pb2_grpc

ITEMS = attributes_of(ITEM_COUNT)
ROW_OF = {item_id(row): row for row in range(ITEM_COUNT)}


def shown(answer: Recommendations) -> list[str]:
    return [item.item_id for item in answer.items]


def values(answer: Recommendations, attribute: str) -> Counter[Any]:
    found = [ITEMS[attribute][ROW_OF[item]] for item in shown(answer)]
    return Counter(value for one in found for value in (one if isinstance(one, list) else [one]) if value is not None)


@pytest.mark.parametrize("attribute", ["genres", "country", "year", "adult"])
def test_a_capped_answer_is_the_ranked_list_without_what_is_over_the_cap(
    client: WinnowClient, releases: Path, attribute: str
) -> None:
    direct = DirectRecommender(releases)
    for seed in range(3):
        history = random_history(seed)
        answer = client.recommend(history, count=8, caps={attribute: 2})
        assert max(values(answer, attribute).values()) <= 2
        ranked = direct.recommend(history, 200)
        counts: Counter[Any] = Counter()
        expected: list[tuple[str, float]] = []
        for item, score in ranked:
            value = ITEMS[attribute][ROW_OF[item]]
            held = value if isinstance(value, list) else [] if value is None else [value]
            if len(expected) < 8 and all(counts[one] < 2 for one in held):
                counts.update(held)
                expected.append((item, score))
        assert_same(answer, expected)
        for position, answered in enumerate(answer.items, start=1):
            ranked_position = [ranked_id for ranked_id, _ in ranked].index(answered.item_id) + 1
            moved = Move(reasons=(MoveReason.OTHERS_CAPPED,), ranked_position=ranked_position)
            assert answered.move == (None if ranked_position == position else moved)


def test_pinned_items_stand_at_their_positions_with_the_scores_of_ranking(client: WinnowClient, releases: Path) -> None:
    history = random_history(1)
    plain = client.recommend(history, count=100)
    outsider = next(item_id(row) for row in range(ITEM_COUNT) if item_id(row) not in {*shown(plain), *history})
    answer = client.recommend(
        history, count=5, pinned_items={outsider: 1, plain.items[50].item_id: 3, history[0]: 2, "no such item": 4}
    )
    assert shown(answer)[0] == outsider
    assert answer.items[2].item_id == plain.items[50].item_id
    assert answer.items[2].score == pytest.approx(plain.items[50].score, abs=1e-6)
    assert answer.items[2].move == Move(reasons=(MoveReason.PINNED,), ranked_position=51)
    assert [item for place, item in enumerate(shown(answer)) if place in (1, 3, 4)] == shown(plain)[:3]
    assert (answer.unknown_pinned_count, answer.excluded_pinned_count) == (1, 1)
    # A watched item may be pinned where watched items may be in the answer.
    watched = client.recommend(history, count=5, pinned_items={history[0]: 2}, include_watched=True)
    assert shown(watched)[1] == history[0]
    scored = client.rank(history, [outsider]).items[0].score
    assert answer.items[0].score == pytest.approx(scored, abs=1e-6)


def test_diversity_changes_the_order_and_none_does_not(client: WinnowClient) -> None:
    history = random_history(2)
    plain = client.recommend(history, count=10)
    assert all(item.move is None for item in plain.items)
    assert shown(client.recommend(history, count=10, diversity=0.0)) == shown(plain)
    diverse = client.recommend(history, count=10, diversity=1.0)
    assert shown(diverse)[0] == shown(plain)[0]
    assert shown(diverse) != shown(plain)
    assert {reason for item in diverse.items if item.move for reason in item.move.reasons} == {MoveReason.DIVERSITY}


def test_each_request_of_a_batch_has_rules_of_its_own(client: WinnowClient) -> None:
    histories = [random_history(seed) for seed in range(4)]
    asked: list[dict[str, Any]] = [{}, {"caps": {"genres": 1}}, {"diversity": 0.7}, {"pinned_items": {item_id(9): 2}}]
    requests = [RecommendationRequest(history, count=6, **one) for history, one in zip(histories, asked, strict=True)]
    wrong = RecommendationRequest(histories[0], caps={"genre": 1})
    answers = client.recommend_many([*requests, wrong])
    for history, one, answer in zip(histories, asked, answers, strict=False):
        assert isinstance(answer, Recommendations)
        assert shown(answer) == shown(client.recommend(history, count=6, **one))
    assert isinstance(answers[-1], WinnowError)
    [violation] = answers[-1].violations
    assert violation.field == "caps[0].attribute"


def test_popular_items_of_an_empty_history_keep_to_the_rules(client: WinnowClient) -> None:
    answer = client.recommend([], count=10, caps={"country": 3}, pinned_items={item_id(299): 1})
    assert not answer.degraded
    assert shown(answer)[0] == item_id(299)
    assert max(values(answer, "country").values()) <= 3


@pytest.mark.parametrize(
    ("asked", "field"),
    [
        ({"caps": {"added": 1}}, "caps[0].attribute"),
        ({"caps": {"year": 0}}, "caps[0].max_count"),
        ({"caps": {str(number): 1 for number in range(11)}}, "caps"),
        ({"pinned_items": {"a": 6}}, "pinned_items[0].position"),
        ({"pinned_items": {str(number): 1 for number in range(101)}}, "pinned_items"),
        ({"diversity": 1.5}, "diversity"),
    ],
)
def test_what_cannot_be_asked_is_refused_by_field(client: WinnowClient, asked: dict[str, Any], field: str) -> None:
    with pytest.raises(WinnowError) as refused:
        client.recommend([item_id(1)], count=5, **asked)
    assert refused.value.code is grpc.StatusCode.INVALID_ARGUMENT
    assert [violation.field for violation in refused.value.violations] == [field]


def test_a_request_with_very_many_caps_is_refused_before_any_of_them_is_read(channel: grpc.Channel) -> None:
    cap = recommendation_pb2.AttributeCap(attribute="year", max_count=1)
    many = recommendation_pb2.RecommendItemsRequest(caps=[cap]).SerializeToString() * 300_000
    method: grpc.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(
        "/winnow.v1.RecommendationService/RecommendItems"
    )
    with pytest.raises(grpc.RpcError) as failure:
        method(many, timeout=10)
    assert failure.value.code() is grpc.StatusCode.INVALID_ARGUMENT


messages = st.builds(
    recommendation_pb2.RecommendItemsRequest,
    item_count=st.integers(-1, 120),
    caps=st.lists(
        st.builds(
            recommendation_pb2.AttributeCap,
            attribute=st.sampled_from([*ATTRIBUTE_TYPES, "", "no such", "é" * 1000]),
            max_count=st.integers(-(2**31), 2**31 - 1),
        ),
        max_size=12,
    ),
    pinned_items=st.lists(
        st.builds(
            recommendation_pb2.PinnedItem,
            item_id=st.sampled_from([*map(item_id, range(20)), "", "no such", "x" * 600]),
            position=st.one_of(st.integers(-1, 25), st.integers(-(2**31), 2**31 - 1)),
        ),
        max_size=8,
    ),
    diversity=st.one_of(st.none(), st.floats(0, 1, width=32), st.floats(width=32)),
)


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(message=messages)
def test_everything_gets_an_answer_or_an_invalid_argument(channel: grpc.Channel, message: Any) -> None:
    try:
        answer = recommendation_pb2_grpc.RecommendationServiceStub(channel).RecommendItems(message, timeout=10)
    except grpc.RpcError as failure:
        assert failure.code() is grpc.StatusCode.INVALID_ARGUMENT, failure
        return
    ids = [item.item_id for item in answer.items]
    assert len(set(ids)) == len(ids)
    for pinned in message.pinned_items:
        assert pinned.item_id not in ids[pinned.position :]


def test_defaults_of_the_gateway_apply_to_requests_that_say_nothing(releases: Path) -> None:
    flags = ("--default-caps", "genres=2", "--default-diversity", "0.5")
    with (
        local_stack(releases, gateway=flags) as stack,
        WinnowClient(stack.gateway_target, timeout_seconds=10) as client,
    ):
        history = random_history(1)
        by_default = client.recommend(history, count=6)
        assert max(values(by_default, "genres").values()) <= 2
        assert any(item.move for item in by_default.items)
        off = client.recommend(history, count=6, caps={"title": 1}, diversity=0.0)
        assert all(item.move is None for item in off.items)
        assert off.degradation.step is DegradationStep.NONE


def test_a_default_cap_that_the_release_cannot_keep_is_said_at_the_start(releases: Path) -> None:
    arguments = ["-m", "gateway", f"--releases={releases}", "--port=0", "--default-caps", "no such=1"]
    gateway = subprocess.run([sys.executable, *arguments], capture_output=True, text=True, timeout=60, check=False)
    assert gateway.returncode == 1
    assert "the default cap of 'no such' cannot be kept" in gateway.stdout + gateway.stderr
