"""What an experiment means to one gateway: the arm of each user, and what is counted for it.

Nothing is kept for single users: the arm follows from the user id, and that of an answer is written into its
recommendation id, from which clicks and watches are counted.
"""

import time
from collections.abc import Callable, Iterable
from typing import NamedTuple

from gateway.recommendation_ids import arm_mark, mark_of
from winnow.release.experiment import CURRENT_ARM, USER_GROUP_COUNT, Arm, Experiment
from winnow.serving.metrics import Metrics
from winnow.users.events import Event, EventKind

_COUNTED_KINDS = {EventKind.CLICK: "click", EventKind.WATCH: "watch"}


class ArmFigures:
    """Counts for one arm: children of the labelled metrics, looked up once."""

    def __init__(self, experiment: Experiment, name: str, number: int, metrics: Metrics) -> None:
        self.name = name
        self.mark = arm_mark(experiment.salt, number)
        """Of the recommendation ids of its answers."""
        labels = (experiment.name, name)
        groups = [str(group) for group in range(USER_GROUP_COUNT)]
        self._answers = [metrics.experiment_answers.labels(*labels, group) for group in groups]
        self._degraded = [metrics.experiment_degraded.labels(*labels, group) for group in groups]
        self._seconds = metrics.experiment_seconds.labels(*labels)
        self._events = {
            kind: [metrics.experiment_events.labels(*labels, group, text) for group in groups]
            for kind, text in _COUNTED_KINDS.items()
        }
        self._fallbacks = {
            reason: metrics.experiment_fallbacks.labels(*labels, reason) for reason in ("waiting", "stage")
        }

    def count_answer(self, group: int, seconds: float, *, degraded: bool) -> None:
        """Count an answer of RecommendItems."""
        self._answers[group].inc()
        self._seconds.observe(seconds)
        if degraded:
            self._degraded[group].inc()

    def count_event(self, group: int, kind: EventKind) -> None:
        """Count a click or a watch."""
        self._events[kind][group].inc()

    def count_fallback(self, reason: str) -> None:
        """Count a request that another release answers: `waiting` or `stage`."""
        self._fallbacks[reason].inc()


class UserArm(NamedTuple):
    """The arm of the user of a request."""

    figures: ArmFigures
    group: int
    release_id: str | None
    """The release that is to answer; None for the current one."""


class GatewayExperiment:
    """Assigns users and counts, while one experiment runs."""

    def __init__(self, experiment: Experiment, metrics: Metrics, clock: Callable[[], float] = time.time) -> None:
        """`clock` returns seconds since 1970."""
        self._experiment = experiment
        # What was counted for the experiment before would be taken for this one's if it had the same name.
        for labelled in (
            metrics.experiment_counted_since_seconds,
            metrics.experiment_answers,
            metrics.experiment_degraded,
            metrics.experiment_seconds,
            metrics.experiment_events,
            metrics.experiment_fallbacks,
            metrics.experiment_shadow_requests,
            metrics.experiment_shadow_overlap,
            metrics.experiment_shadow_rank_correlation,
        ):
            labelled.clear()
        metrics.experiment_counted_since_seconds.labels(experiment.name).set(clock())
        names = [CURRENT_ARM, *(arm.name for arm in experiment.answering_arms)]
        arms = [ArmFigures(experiment, name, number, metrics) for number, name in enumerate(names)]
        self._by_name = {arm.name: arm for arm in arms}
        self._by_mark = {arm.mark: arm for arm in arms}

    def arm_of(self, user_id: str) -> UserArm:
        """Return the arm of a user."""
        arm, group = self._experiment.assign(user_id)
        if arm is None:
            return UserArm(self._by_name[CURRENT_ARM], group, None)
        return UserArm(self._by_name[arm.name], group, arm.release_id)

    def count_events(self, events: Iterable[Event]) -> None:
        """Count the clicks and watches that name an answer of the experiment, by users of the arm that gave it."""
        for event in events:
            if event.recommendation_id and event.kind in _COUNTED_KINDS:
                arm = self._by_mark.get(mark_of(event.recommendation_id))
                # Whoever is in another arm names somebody else's answer.
                if arm is not None and (user := self.arm_of(event.user_id)).figures is arm:
                    arm.count_event(user.group, event.kind)

    @property
    def shadow(self) -> Arm | None:
        """The arm that is asked too, if any."""
        return self._experiment.shadow

    @property
    def name(self) -> str:
        """The experiment's name."""
        return self._experiment.name
