"""The three services together: the same answers as the plain computation, and honest ones while a stage is down."""

import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc
import numpy as np
import pytest

from tests.conftest import local_stack
from tests.reference import DirectRecommender
from tests.releases import ITEM_COUNT, item_id
from winnow.client import (
    CandidateSource,
    Degradation,
    DegradationStep,
    Recommendations,
    ReleaseState,
    ScoreType,
    WinnowClient,
    WinnowError,
)
from winnow.release.reader import current_release_id
from winnow.serving.local_stack import LocalStack


def random_history(seed: int) -> list[str]:
    rng = np.random.default_rng(seed)
    return [item_id(row) for row in rng.integers(0, ITEM_COUNT, rng.integers(1, 60)).tolist()]


def assert_same(answer: Recommendations, expected: list[tuple[str, float]]) -> None:
    assert [item.item_id for item in answer.items] == [wanted for wanted, _ in expected]
    np.testing.assert_allclose(
        [item.score for item in answer.items], [score for _, score in expected], atol=1e-5, rtol=0
    )


def test_served_rankings_equal_the_plain_computation(stack: LocalStack, releases: Path) -> None:
    direct = DirectRecommender(releases)
    with WinnowClient(stack.gateway_target, timeout_seconds=5) as client:
        for seed in range(20):
            history = random_history(seed)
            answer = client.recommend(history, count=50)
            assert answer.release_id == direct.release_id
            assert not answer.degraded
            assert_same(answer, direct.recommend(history, 50))


def test_many_at_once_get_the_answers_they_would_get_alone(stack: LocalStack, releases: Path) -> None:
    direct = DirectRecommender(releases)
    histories = [random_history(seed) for seed in range(200)]
    with (
        WinnowClient(stack.gateway_target, timeout_seconds=10) as client,
        ThreadPoolExecutor(max_workers=24) as callers,
    ):
        answers = list(callers.map(lambda history: client.recommend(history, count=10), histories))
    for history, answer in zip(histories, answers, strict=True):
        assert_same(answer, direct.recommend(history, 10))


def test_every_answer_has_an_id_of_its_own(stack: LocalStack) -> None:
    history = random_history(1)
    with WinnowClient(stack.gateway_target, timeout_seconds=5) as client:
        ids = [
            answer.recommendation_id
            for _ in range(5)
            for answer in (client.recommend(history), client.retrieve(history), client.rank(history, [item_id(1)]))
        ]
    assert len(set(ids)) == len(ids)
    assert ids == sorted(ids)


def test_the_time_of_each_step_is_told(stack: LocalStack) -> None:
    with WinnowClient(stack.gateway_target, timeout_seconds=5) as client:
        timing = client.recommend(random_history(1)).timing
    assert timing.wait_milliseconds is not None
    assert timing.retrieve_milliseconds is not None
    assert timing.retrieve_compute_milliseconds is not None
    assert timing.rank_milliseconds is not None
    assert timing.rank_compute_milliseconds is not None
    assert timing.select_milliseconds is not None
    assert 0 < timing.retrieve_compute_milliseconds <= timing.retrieve_milliseconds
    assert 0 < timing.rank_compute_milliseconds <= timing.rank_milliseconds
    steps = (
        timing.wait_milliseconds + timing.retrieve_milliseconds + timing.rank_milliseconds + timing.select_milliseconds
    )
    assert steps <= timing.total_milliseconds


def test_the_release_is_described_and_every_service_tells_its_state(stack: LocalStack, releases: Path) -> None:
    release_id = current_release_id(releases)
    with WinnowClient(stack.gateway_target, timeout_seconds=5) as client:
        facts = client.release()
        assert (facts.release_id, facts.item_count) == (release_id, ITEM_COUNT)
    for service in ("gateway", "candidate_service", "ranking_service"):
        with WinnowClient(stack.address(service), timeout_seconds=5) as client:
            status = client.status()
        assert (status.service, status.release_id) == (service, release_id)
        assert [(held.release_id, held.state) for held in status.releases] == [(release_id, ReleaseState.CURRENT)]


def test_a_step_that_is_not_taken_has_no_time(stack: LocalStack) -> None:
    with WinnowClient(stack.gateway_target, timeout_seconds=5) as client:
        assert client.retrieve(random_history(1)).timing.rank_milliseconds is None
        assert client.rank(random_history(1), [item_id(1)]).timing.retrieve_milliseconds is None
        assert client.recommend([]).timing.retrieve_milliseconds is None


def test_the_ladder_of_degraded_answers_and_back(releases: Path) -> None:
    history = random_history(7)
    with (
        local_stack(releases) as stack,
        WinnowClient(stack.gateway_target, timeout_seconds=5) as client,
    ):
        full = client.recommend(history)
        candidates = client.retrieve(history, count=20)

        stop(stack, "ranking_service")
        unranked = client.recommend(history)
        assert unranked.degradation == Degradation(step=DegradationStep.CANDIDATE_ORDER, reason="ranking: UNAVAILABLE")
        assert unranked.score_type is ScoreType.CANDIDATE_LOGIT
        assert unranked.items == candidates.items
        assert unranked.ranked_count == 0
        assert client.recommend([]).degradation.step is DegradationStep.POPULAR
        refused(client, history, "ranking: UNAVAILABLE")

        stop(stack, "candidate_service")
        popular = client.recommend(history)
        assert popular.degradation == Degradation(
            step=DegradationStep.POPULAR, reason="candidate: UNAVAILABLE, ranking: UNAVAILABLE"
        )
        assert popular.score_type is ScoreType.POPULARITY
        assert [item.item_id for item in popular.items] == [
            item_id(row) for row in range(ITEM_COUNT) if item_id(row) not in history
        ][:20]
        with pytest.raises(WinnowError, match="candidate: UNAVAILABLE"):
            client.retrieve(history)

        stack.start_service("ranking_service")
        ranked = eventually(client, history, DegradationStep.POPULAR_RANKED)
        assert ranked.candidate_source is CandidateSource.POPULAR
        assert ranked.score_type is ScoreType.WATCH_PROBABILITY
        refused(client, history, "candidate: UNAVAILABLE")

        stack.start_service("candidate_service")
        assert eventually(client, history, DegradationStep.NONE).items == full.items


def stop(stack: LocalStack, service: str) -> None:
    process = stack.processes[service]
    process.send_signal(signal.SIGTERM)
    assert process.wait(20) == 0


def refused(client: WinnowClient, history: list[str], reason: str) -> None:
    with pytest.raises(WinnowError, match=reason) as failure:
        client.recommend(history, require_ranked=True)
    assert failure.value.code is grpc.StatusCode.UNAVAILABLE


def eventually(client: WinnowClient, history: list[str], step: DegradationStep) -> Recommendations:
    give_up = time.monotonic() + 30
    while True:
        answer = client.recommend(history)
        if answer.degradation.step is step:
            return answer
        assert time.monotonic() < give_up, f"still {answer.degradation.step} after 30 seconds"
        time.sleep(0.1)


def test_winnow_serve_stops_all_three_on_sigterm(releases: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "winnow.cli", "serve", f"--releases={releases}", "--port=0", "--candidate-port=0",
         "--ranking-port=0"],
        stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stderr is not None
    lines = []
    for line in process.stderr:
        lines.append(line)
        if "Winnow answers on" in line:
            break
    process.send_signal(signal.SIGTERM)
    _, rest = process.communicate(timeout=40)
    assert process.returncode == 0
    assert rest.count("stopped") == 3


def test_winnow_serve_fails_as_a_whole(releases: Path, stack: LocalStack, tmp_path: Path) -> None:
    taken = stack.gateway_target.split(":")[1]
    command = [sys.executable, "-m", "winnow.cli", "serve", "--candidate-port=0", "--ranking-port=0"]
    result = subprocess.run(
        [*command, f"--releases={releases}", f"--port={taken}"], capture_output=True, text=True, timeout=60, check=False
    )
    assert result.returncode == 1
    assert f"gateway cannot start: {stack.gateway_target} is taken" in result.stderr

    result = subprocess.run(
        [*command, f"--releases={tmp_path}", "--port=0"], capture_output=True, text=True, timeout=60, check=False
    )
    assert result.returncode == 1
    assert f"no release in {tmp_path}" in " ".join(result.stderr.split())


def test_winnow_recommend_prints_titles(stack: LocalStack) -> None:
    command = [sys.executable, "-m", "winnow.cli", "recommend", f"--target={stack.gateway_target}"]
    result = subprocess.run(
        [*command, "item-4", "--title", "title 12", "--count=3"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    assert "Watched: Title 4, Title 12" in result.stdout
    assert "Release 2" in result.stdout

    result = subprocess.run([*command, ""], capture_output=True, text=True, timeout=60, check=False)
    assert result.returncode == 1
    assert result.stderr.count("history[0].item_id is empty") == 1
