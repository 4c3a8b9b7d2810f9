"""Experiments through all services and commands: each user gets one arm, and what goes wrong costs no answer."""

import shutil
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import grpc
import pytest
from typer.testing import CliRunner

from tests.conftest import local_stack
from tests.end_to_end.test_release_swap import damaged, eventually
from tests.end_to_end.test_stack import random_history
from tests.reference import DirectRecommender
from tests.releases import item_id, write_random_release
from winnow.cli import app
from winnow.client import Event, EventKind, RecommendationRequest, Recommendations, WinnowClient
from winnow.experiments.figures import ExperimentCounts, read_counts
from winnow.experiments.figures import total as added
from winnow.metrics_endpoint import fetch_metrics
from winnow.release.experiment import EXPERIMENT_FILE, read_experiment
from winnow.release.publication import point_current_at
from winnow.serving.local_stack import LocalStack, free_port
from winnow.v1 import status_pb2, status_pb2_grpc

SERVICES = ("candidate_service", "ranking_service", "gateway")
USERS = [f"user {number}" for number in range(150)]
HISTORY = random_history(3)


@dataclass(frozen=True)
class Experiments:
    stack: LocalStack
    releases: Path
    metrics_url: str
    first: str
    second: str
    bad: str

    def run(self, *arguments: str, exit_code: int = 0) -> str:
        result = CliRunner().invoke(app, [*arguments, f"--releases={self.releases}"], env={"COLUMNS": "300"})
        assert result.exit_code == exit_code, result.output
        return result.output

    def start(self, *arguments: str) -> None:
        self.run("experiment", "start", *arguments)

    def status(self, service: str) -> status_pb2.GetStatusResponse:
        with grpc.insecure_channel(self.stack.address(service)) as channel:
            return status_pb2_grpc.StatusServiceStub(channel).GetStatus(status_pb2.GetStatusRequest(), timeout=5)

    def waits_for(self, name: str, service: str = "gateway") -> str | None:
        """What the one arm of the experiment waits for; None where the service does not know the experiment."""
        experiment = self.status(service).experiment
        return experiment.arms[0].waits_for if experiment.name == name else None

    def ready(self, name: str) -> None:
        eventually(lambda: self.waits_for(name) == "")

    def counts(self, name: str) -> ExperimentCounts:
        return read_counts(name, [fetch_metrics(self.metrics_url)])


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Experiments]:
    releases = tmp_path_factory.mktemp("releases")
    second = write_random_release(releases, seed=2)
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    bad = damaged(elsewhere, "pickle")  # which the ranking service refuses
    shutil.move(elsewhere / bad, releases / bad)
    first = write_random_release(releases, seed=1)
    port = free_port("127.0.0.1")
    gateway = [f"--users-store={releases / 'users.db'}", f"--metrics-port={port}", "--users-timeout-seconds=5"]
    with local_stack(releases, all=["--release-poll-seconds=0.1"], gateway=gateway) as stack:
        yield Experiments(stack, releases, f"http://127.0.0.1:{port}/metrics", first, second, bad)


@pytest.fixture
def experiments(shared: Experiments) -> Experiments:
    """Without an experiment, whatever the test before has left."""
    (shared.releases / EXPERIMENT_FILE).unlink(missing_ok=True)
    point_current_at(shared.releases, shared.first)
    eventually(
        lambda: all(
            (status := shared.status(service)).release_id == shared.first and not status.HasField("experiment")
            for service in SERVICES
        )
    )
    return shared


@pytest.fixture
def client(experiments: Experiments) -> Iterator[WinnowClient]:
    with WinnowClient(experiments.stack.gateway_target, timeout_seconds=10) as opened:
        yield opened


def recommend_all(client: WinnowClient, users: Sequence[str] = USERS) -> list[Recommendations]:
    outcomes = client.recommend_many([RecommendationRequest(HISTORY, user_id=user) for user in users])
    return [outcome for outcome in outcomes if isinstance(outcome, Recommendations)]


def assert_answers_of(answer: Recommendations, recommender: DirectRecommender) -> None:
    expected = recommender.recommend(HISTORY, 20)
    assert [item.item_id for item in answer.items] == [wanted for wanted, _ in expected]
    assert [item.score for item in answer.items] == pytest.approx([score for _, score in expected], abs=1e-5)


def test_users_are_split_and_every_answer_is_from_the_release_of_its_arm(
    experiments: Experiments, client: WinnowClient
) -> None:
    experiments.start("split", f"--arm=b={experiments.second}:0.4")
    experiments.ready("split")
    experiment = read_experiment(experiments.releases)
    assert experiment is not None
    of_arm = {"current": experiments.first, "b": experiments.second}
    recommenders = {id_: DirectRecommender(experiments.releases, id_) for id_ in of_arm.values()}
    answers = recommend_all(client)
    assert len(answers) == len(USERS)
    for user, answer in zip(USERS, answers, strict=True):
        arm = experiment.assign(user).arm
        assert answer.experiment_arm == ("current" if arm is None else arm.name)
        assert answer.release_id == of_arm[answer.experiment_arm]
        assert not answer.degraded
        assert_answers_of(answer, recommenders[answer.release_id])
    assert set(Counter(answer.experiment_arm for answer in answers)) == {"current", "b"}

    for user, answer in zip(USERS[:12], answers, strict=False):
        items = [item_id(row) for row in range(5)]
        for other in (
            client.recommend(HISTORY, user_id=user),
            client.retrieve(HISTORY, user_id=user),
            client.rank(HISTORY, items, user_id=user),
            client.explain(RecommendationRequest(HISTORY, user_id=user), item_id(1)),
        ):
            assert (other.experiment_arm, other.release_id) == (answer.experiment_arm, answer.release_id)
    anonymous = client.recommend(HISTORY)
    assert (anonymous.experiment_arm, anonymous.release_id) == ("", experiments.first)


def test_an_experiment_is_started_shown_ended_published_and_rolled_back_by_command(
    experiments: Experiments, client: WinnowClient
) -> None:
    experiments.start("clicks", f"--arm=b={experiments.second}:0.5")
    assert "is running: end it first" in experiments.run(
        "experiment", "start", "more", f"--arm=c={experiments.second}:0.1", exit_code=1
    )
    experiments.ready("clicks")
    answers = recommend_all(client)
    of_b = [(user, answer) for user, answer in zip(USERS, answers, strict=True) if answer.experiment_arm == "b"]
    events = [
        Event(user_id=user, item_id=answer.items[0].item_id, kind=kind, recommendation_id=answer.recommendation_id)
        for kind in (EventKind.CLICK, EventKind.IMPRESSION)
        for user, answer in of_b[:9]
    ]
    unrelated = Event(user_id=USERS[0], item_id=item_id(1), kind=EventKind.CLICK, recommendation_id="of another one")
    client.write_events([*events, unrelated])
    client.recommend(HISTORY)

    counts = experiments.counts("clicks")
    assert added(counts.arms["b"].answers) == len(of_b)
    assert added(counts.arms["current"].answers) == len(USERS) - len(of_b)
    assert added(counts.arms["b"].events["click"]) == 9
    assert added(counts.arms["current"].events["click"]) == 0
    assert not any(counts.arms["b"].fallbacks.values())
    shown = experiments.run("experiment", "show", f"--metrics={experiments.metrics_url}")
    assert f"{len(of_b):,}" in shown
    assert experiments.second in shown
    assert "clicks an answer" in shown
    assert "by 1 of 1 gateway processes" in shown

    ended = experiments.run("experiment", "end", "--publish=b")
    roll_back = f"winnow publish {experiments.first} --releases {experiments.releases}"
    assert roll_back in ended
    eventually(lambda: all(experiments.status(service).release_id == experiments.second for service in SERVICES))
    eventually(lambda: not experiments.status("gateway").HasField("experiment"))
    answer = client.recommend(HISTORY, user_id=USERS[0])
    assert (answer.release_id, answer.experiment_arm) == (experiments.second, "")
    experiments.run("publish", experiments.first)
    eventually(lambda: all(experiments.status(service).release_id == experiments.first for service in SERVICES))
    assert client.recommend(HISTORY, user_id=USERS[0]).release_id == experiments.first
    assert "no experiment is running" in experiments.run("experiment", "end", exit_code=1)


def test_a_release_that_a_stage_lacks_costs_the_experiment_and_no_answer(
    experiments: Experiments, client: WinnowClient
) -> None:
    experiments.start("lacking", f"--arm=b={experiments.bad}:0.5")
    eventually(lambda: "ranking: not held by" in (experiments.waits_for("lacking") or ""))
    eventually(lambda: "header too large" in (experiments.waits_for("lacking", "ranking_service") or ""))
    experiment = read_experiment(experiments.releases)
    assert experiment is not None
    answers = recommend_all(client)
    for user, answer in zip(USERS, answers, strict=True):
        assert answer.release_id == experiments.first
        assert not answer.degraded
        assert answer.experiment_arm == ("current" if experiment.assign(user).arm is None else "")
    counts = experiments.counts("lacking")
    without_arm = sum(not answer.experiment_arm for answer in answers)
    assert counts.arms["b"].fallbacks["waiting"] == without_arm > 0
    assert added(counts.arms["b"].answers) == 0
    assert f"{without_arm} waiting" in experiments.run("experiment", "show", f"--metrics={experiments.metrics_url}")


def test_a_file_that_cannot_be_used_leaves_the_experiment_as_it_was(
    experiments: Experiments, client: WinnowClient
) -> None:
    experiments.start("kept", f"--arm=b={experiments.second}:1.0")
    experiments.ready("kept")
    file = experiments.releases / EXPERIMENT_FILE
    good = file.read_text()
    for content, reason in ((good[:-20], "Invalid JSON"), (good.replace("1.0", "1.5"), "less than or equal to 1")):
        file.write_text(content)
        for service in SERVICES:
            eventually(
                lambda reason=reason, service=service: reason in experiments.status(service).experiment.file_error  # type: ignore[misc]
            )
        assert experiments.waits_for("kept") == ""
        assert client.recommend(HISTORY, user_id="ann").experiment_arm == "b"
        assert "winnow_experiment_file_invalid 1.0" in fetch_metrics(experiments.metrics_url)
    file.write_text(good)
    for service in SERVICES:
        eventually(lambda service=service: not experiments.status(service).experiment.file_error)  # type: ignore[misc]
    assert "winnow_experiment_file_invalid 0.0" in fetch_metrics(experiments.metrics_url)
    # Ending is possible whatever is in the file.
    file.write_text("{")
    experiments.run("experiment", "end")
    eventually(lambda: not experiments.status("gateway").HasField("experiment"))
    assert client.recommend(HISTORY, user_id="ann").release_id == experiments.first


def test_a_shadow_is_compared_and_changes_no_answer(experiments: Experiments, client: WinnowClient) -> None:
    experiments.start("shade", f"--shadow=s={experiments.second}:1.0")
    experiments.ready("shade")
    recommender = DirectRecommender(experiments.releases, experiments.first)
    for number in range(20):
        answer = client.recommend(HISTORY, user_id=USERS[number] if number % 2 else None)
        assert (answer.release_id, answer.experiment_arm) == (experiments.first, "current" if number % 2 else "")
        assert_answers_of(answer, recommender)
    recommend_all(client, USERS[:10])
    eventually(lambda: sum(experiments.counts("shade").arms["s"].shadow_requests.values()) == 30)
    arm = experiments.counts("shade").arms["s"]
    assert arm.shadow_requests["compared"] == added(arm.overlap_count) > 0
    overlap, correlation = arm.overlap(), arm.rank_correlation()
    assert overlap is not None
    assert correlation is not None
    first, second = (
        [found for found, _ in DirectRecommender(experiments.releases, id_).recommend(HISTORY, 20)]
        for id_ in (experiments.first, experiments.second)
    )
    assert overlap.value == pytest.approx(len(set(first) & set(second)) / 20)
    shown = experiments.run("experiment", "show", f"--metrics={experiments.metrics_url}")
    assert "overlap@20" in shown
    assert f"{arm.shadow_requests['compared']:.0f} compared" in shown
