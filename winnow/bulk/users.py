"""Asks for recommendations for every user of a log, many at once."""

import asyncio
import random
from collections.abc import Callable, Coroutine, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import grpc
import polars as pl

from winnow.bulk.parts import PartedFile
from winnow.client import AsyncWinnowClient, RecommendationRequest, Recommendations, Watch, WinnowError
from winnow.logs.interactions import Interactions

# The gateway's default limits of watches and of excluded ids.
MAX_HISTORY_ITEMS = 1000
MAX_EXCLUDED_ITEMS = 1000

# Two, so that the calls do not pause while one part ends and is written.
PARTS_AT_ONCE = 2
# As many as the gateway sends to a stage in one call by default.
USERS_PER_CALL = 64
CALLS_AT_ONCE = 6

# What another try may mend: 12 seconds of tries outlast a restart or a swap.
TRANSIENT = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.RESOURCE_EXHAUSTED, grpc.StatusCode.DEADLINE_EXCEEDED)
TRIES = 8

SCHEMA = {
    "user_id": pl.String,
    "position": pl.Int32,
    "item_id": pl.String,
    "score": pl.Float32,
    "score_type": pl.String,
    "release_id": pl.String,
    "recommendation_id": pl.String,
    "degradation": pl.String,
    "status": pl.String,
    "error": pl.String,
}
"""One row an item, positions from 1. A user without items has one row, whose item is null. `status` is OK or what the
user's request has failed with, and `error` the gateway's text."""

Outcome = Recommendations | WinnowError


@dataclass(frozen=True, kw_only=True)
class Pace:
    """How a run goes about it."""

    users_per_part: int = 2048
    """So many are asked again at most, for each part in the making, after a crash."""
    first_pause_seconds: float = 0.1
    """Before the second try of what may succeed later; each further pause is twice as long."""


class UserRecommendations:
    """Recommendations for the users of a log, in the order of the log, as parts of a file."""

    def __init__(
        self,
        log: Interactions,
        asked: RecommendationRequest,
        file: PartedFile,
        client: AsyncWinnowClient,
        pace: Pace,
    ) -> None:
        """`asked` is the request of every user, but for the history and what follows from it."""
        self._log = log
        self._asked = asked
        self._file = file
        self._client = client
        self._pace = pace
        self._calls = asyncio.Semaphore(CALLS_AT_ONCE)

    async def make(self, parts: Iterable[int], on_answered: Callable[[int], None]) -> None:
        """Make parts, and report how many more users are answered.

        Raises WinnowError where a call of many users fails for longer than it is worth trying: the parts that are made
        by then are kept.
        """
        waiting = iter(parts)

        async def make_parts() -> None:
            for part in waiting:
                start = part * self._pace.users_per_part
                users = range(start, min(start + self._pace.users_per_part, len(self._log.user_ids)))
                calls = [users[first : first + USERS_PER_CALL] for first in range(0, len(users), USERS_PER_CALL)]
                answers = await _all(self._answer(call, on_answered) for call in calls)
                outcomes = [outcome for answer in answers for outcome in answer]
                frame = as_frame([self._log.user_ids[user] for user in users], outcomes)
                await asyncio.to_thread(self._file.write, part, frame)

        await _all(make_parts() for _ in range(PARTS_AT_ONCE))

    async def _answer(self, users: Sequence[int], on_answered: Callable[[int], None]) -> list[Outcome]:
        """Return one outcome a user. Transient failures are tried again."""
        async with self._calls:
            outcomes: dict[int, Outcome] = {}
            waiting = users
            for attempt in range(TRIES):
                if attempt:
                    # Not all at the same time again.
                    pause_seconds = self._pace.first_pause_seconds * 2 ** (attempt - 1)
                    await asyncio.sleep(pause_seconds * random.uniform(0.75, 1.25))  # noqa: S311 - no secret
                found = await self._client.recommend_many(map(self._request, waiting))
                outcomes.update(zip(waiting, found, strict=True))
                waiting = [user for user in waiting if _is_transient(outcomes[user])]
                if not waiting:
                    break
            answered = [outcomes[user] for user in users]
            if len(waiting) == len(users) and isinstance(answered[0], WinnowError):
                raise answered[0]
            on_answered(len(users))
            return answered

    def _request(self, user: int) -> RecommendationRequest:
        """The latest watches are the history; those before them are at least not recommended again."""
        watches = self._log.histories.slice(user, user + 1).last(MAX_HISTORY_ITEMS + MAX_EXCLUDED_ITEMS)
        item_ids = self._log.vocabulary.item_ids(watches.rows.tolist())
        history = map(Watch, item_ids, watches.weights.tolist(), watches.timestamps.tolist())
        return replace(
            self._asked,
            history=list(history)[-MAX_HISTORY_ITEMS:],
            excluded_item_ids=() if self._asked.include_watched else item_ids[:-MAX_HISTORY_ITEMS],
        )


def as_frame(user_ids: Sequence[str], outcomes: Sequence[Outcome]) -> pl.DataFrame:
    """Return the outcomes as rows of SCHEMA."""
    rows: list[tuple[Any, ...]] = []
    for user_id, outcome in zip(user_ids, outcomes, strict=True):
        if isinstance(outcome, WinnowError):
            nothing = (None,) * 7
            rows.append((user_id, *nothing, outcome.code.name, outcome.message))
            continue
        answer = (
            outcome.score_type.value, outcome.release_id, outcome.recommendation_id, outcome.degradation.step.value,
            "OK", None,
        )  # fmt: skip
        rows.extend(
            (user_id, position, item.item_id, item.score, *answer)
            for position, item in enumerate(outcome.items, start=1)
        )
        if not outcome.items:
            rows.append((user_id, None, None, None, *answer))
    return pl.DataFrame(rows, schema=SCHEMA, orient="row")


def _is_transient(outcome: Outcome) -> bool:
    return isinstance(outcome, WinnowError) and outcome.code in TRANSIENT


async def _all(coroutines: Iterable[Coroutine[Any, Any, Any]]) -> list[Any]:
    """Return all results. The first error ends the others and is raised."""
    tasks = [asyncio.ensure_future(coroutine) for coroutine in coroutines]
    try:
        return await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
