"""What gateways count is what is read from their metrics, added up over processes."""

import pytest
from prometheus_client import generate_latest

from gateway.experiment import GatewayExperiment
from gateway.recommendation_ids import RecommendationIds
from tests.unit.release.test_experiment import A, experiment
from winnow.experiments.figures import ArmCounts, read_counts, total
from winnow.metrics_endpoint import MetricsError
from winnow.serving.metrics import Metrics
from winnow.users.events import Event, EventKind


def counted(seconds: float, answers: int) -> str:
    """The metrics of a gateway that has counted so many answers for each of 40 users, and a click for each in `b`."""
    metrics = Metrics()
    running = GatewayExperiment(experiment(A), metrics, clock=lambda: seconds)
    ids = RecommendationIds()
    for user in map(str, range(40)):
        arm = running.arm_of(user)
        for _ in range(answers):
            arm.figures.count_answer(arm.group, 0.012, degraded=arm.figures.name == "current")
        cited = ids.marked(arm.figures.mark) if arm.figures.name == "b" else ids.next()
        running.count_events([Event(user, "e", EventKind.CLICK, "item", 1, recommendation_id=cited)])
    running.arm_of("2").figures.count_fallback("stage")
    return generate_latest(metrics.registry).decode()


def test_processes_are_added_up() -> None:
    counts = read_counts("trial", [counted(1000, 3), counted(2000, 2), "# HELP other nothing\nother 1\n"])
    assert counts.counting == 2
    assert counts.counted_since is not None
    assert counts.counted_since.timestamp() == 2000, "the last one to begin"
    in_b = sum(experiment(A).assign(str(user)).arm is not None for user in range(40))
    b, current = counts.arms["b"], counts.arms["current"]
    assert total(b.answers) == 5 * in_b
    assert total(current.answers) == 5 * (40 - in_b) == total(current.degraded)
    assert total(b.events["click"]) == 2 * in_b
    assert total(current.events["click"]) == 0
    clicks = b.events_per_answer("click")
    assert clicks is not None
    assert clicks.value == pytest.approx(2 / 5)
    degraded = current.degraded_share()
    assert degraded is not None
    assert degraded.value == 1
    median = b.seconds_quantile(0.5)
    assert median is not None
    assert 0.01 < median.value <= 0.013
    assert b.fallbacks == {"waiting": 0, "stage": 2}


def test_another_experiment_is_not_counted() -> None:
    assert read_counts("other", [counted(1000, 1)]).arms == {}
    assert ArmCounts().degraded_share() is None
    assert ArmCounts().overlap() is None


@pytest.mark.parametrize(
    "text",
    [
        "{",
        'winnow_experiment_answers_total{experiment="trial",arm="b",group="99"} 1\n',
        'winnow_experiment_answers_total{experiment="trial",arm="b",group="-1"} 1\n',
        'winnow_experiment_counted_since_seconds{experiment="trial"} 1e300\n',
        "<html>\n",
    ],
)
def test_what_is_not_the_metrics_of_a_gateway_is_refused(text: str) -> None:
    with pytest.raises(MetricsError, match="not the metrics of a gateway"):
        read_counts("trial", [text])
