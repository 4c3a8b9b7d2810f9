"""A shadow: a release that is asked what users asked, after they have their answers, and compared with them."""

import asyncio
import random
import time
from collections.abc import Callable, Sequence
from contextvars import Context
from dataclasses import dataclass

from gateway.answers import DegradationStep
from gateway.requests import CandidateRequest
from gateway.served_catalogue import ServedCatalogue
from gateway.served_release import ServedRelease
from winnow.release.experiment import USER_GROUP_COUNT, Arm
from winnow.rpc.errors import ServiceError
from winnow.serving.boundary import log_error
from winnow.serving.metrics import Metrics
from winnow.serving.releases import HeldRelease

# Requests that a shadow is asked at once, at most: further ones are dropped, so a shadow that hangs holds no more.
MAX_IN_FLIGHT = 32
# How long one may take; the stages are told.
TIMEOUT_SECONDS = 1.0
COMPARED_ITEMS = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class ShadowedRequest:
    """A request that has been answered."""

    read: Callable[[ServedCatalogue, float], CandidateRequest]
    """Reads it anew, for another release and until another deadline (event-loop time). Raises ServiceError."""
    item_ids: Sequence[str]
    """The first items of the answer."""
    group: int | None
    """The group of its user; None where it has none."""


class Shadow:
    """Asks a shadow and counts how its answers compare. All methods are called on the event loop."""

    def __init__(
        self,
        experiment: str,
        arm: Arm,
        metrics: Metrics,
        release: Callable[[], HeldRelease[ServedRelease] | None],
        busy: Callable[[], bool],
    ) -> None:
        """`release` returns the shadow's release, if it can be used. While it is `busy`, no shadow is asked."""
        self._share = arm.share
        self._release = release
        self._busy = busy
        self._random = random.Random()  # noqa: S311 - chooses requests, nothing secret
        self._tasks: set[asyncio.Task[None]] = set()
        labels = (experiment, arm.name)
        groups = [str(group) for group in range(USER_GROUP_COUNT)]
        self._overlap = [metrics.experiment_shadow_overlap.labels(*labels, group) for group in groups]
        self._correlation = [metrics.experiment_shadow_rank_correlation.labels(*labels, group) for group in groups]
        self._seconds = metrics.experiment_seconds.labels(*labels)
        self._outcomes = {
            outcome: metrics.experiment_shadow_requests.labels(*labels, outcome)
            for outcome in ("compared", "degraded", "failed", "dropped", "waiting")
        }

    def chooses(self) -> bool:
        """Whether the next request is one that the shadow is asked too."""
        return self._random.random() < self._share

    def ask(self, request: ShadowedRequest) -> None:
        """Ask the shadow later, if there is room. Returns at once."""
        held = self._release()
        if held is None:
            self._outcomes["waiting"].inc()
        elif len(self._tasks) >= MAX_IN_FLIGHT or self._busy():
            self._outcomes["dropped"].inc()
        else:
            # In a context of its own: what a shadow does is no part of the call that has been answered.
            task = asyncio.get_running_loop().create_task(self._compare(request, held), context=Context())
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    def close(self) -> None:
        """Give up what is under way."""
        for task in self._tasks:
            task.cancel()

    async def _compare(self, request: ShadowedRequest, held: HeldRelease[ServedRelease]) -> None:
        started = time.perf_counter()
        try:
            with held as release:
                async with asyncio.timeout(TIMEOUT_SECONDS):
                    deadline = asyncio.get_running_loop().time() + TIMEOUT_SECONDS
                    asked = request.read(release.catalogue, deadline)
                    answer = await release.pipeline.recommend(asked, other_release=False)
            if answer.degradation is not DegradationStep.NONE:
                self._outcomes["degraded"].inc()
                return
            item_ids = release.catalogue.vocabulary.item_ids(answer.rows[:COMPARED_ITEMS].tolist())
        except (ServiceError, TimeoutError):
            self._outcomes["failed"].inc()
            return
        except Exception as error:
            log_error(error, "shadow")
            self._outcomes["failed"].inc()
            return
        self._seconds.observe(time.perf_counter() - started)
        self._outcomes["compared"].inc()
        group = self._random.randrange(USER_GROUP_COUNT) if request.group is None else request.group
        self._overlap[group].observe(overlap(request.item_ids, item_ids))
        correlation = rank_correlation(request.item_ids, item_ids)
        if correlation is not None:
            self._correlation[group].observe(correlation)


def overlap(first: Sequence[str], second: Sequence[str]) -> float:
    """Return the share of the items that two lists have in common; of the longer list, where they differ in length."""
    longer = max(len(first), len(second))
    return len(set(first) & set(second)) / longer if longer else 1.0


def rank_correlation(first: Sequence[str], second: Sequence[str]) -> float | None:
    """Return Kendall's tau of the order of the items that two lists have in common; None of fewer than two items."""
    place = {item_id: position for position, item_id in enumerate(second)}
    places = [place[item_id] for item_id in first if item_id in place]
    pairs = len(places) * (len(places) - 1) // 2
    if not pairs:
        return None
    discordant = sum(places[i] > places[j] for j in range(len(places)) for i in range(j))
    return 1 - 2 * discordant / pairs
