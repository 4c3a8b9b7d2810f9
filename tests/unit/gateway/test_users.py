"""Stored histories in front of the pipeline: read together, in time or not at all."""

import asyncio
import time
from collections.abc import AsyncIterator, Collection, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import grpc
import pytest

from gateway.settings import GatewaySettings
from gateway.users import MAX_QUEUED_USERS, Users
from tests.unit.users.events import PlainStore, event
from winnow.rpc.errors import DeadlineError, OverloadedError, UnavailableError
from winnow.serving.metrics import Metrics
from winnow.users.events import ALL_KINDS, Event, EventKind, UserHistory
from winnow.users.store import StoreError

HISTORY_KINDS = frozenset({EventKind.WATCH, EventKind.DISMISSAL})


@dataclass
class FakeStore:
    """A dictionary that counts its round trips, and is slow or away if a test says so."""

    plain: PlainStore = field(default_factory=lambda: PlainStore(100))
    reads: list[tuple[list[str], set[int]]] = field(default_factory=list)
    appends: list[int] = field(default_factory=list)
    seconds: float = 0.0
    away: bool = False

    async def open(self) -> None:
        """Always open."""

    async def append(self, events: Sequence[Event]) -> None:
        await self._answer()
        self.appends.append(len(events))
        self.plain.append(events)

    async def read(self, user_ids: Sequence[str], kinds: Collection[int]) -> list[list[Event]]:
        await self._answer()
        self.reads.append((list(user_ids), set(kinds)))
        return self.plain.read(user_ids, kinds)

    async def histories(self, user_ids: Sequence[str]) -> list[UserHistory]:
        return list(map(UserHistory.of, await self.read(user_ids, HISTORY_KINDS)))

    async def delete(self, user_id: str) -> int:
        await self._answer()
        return self.plain.delete(user_id)

    async def export(self) -> AsyncIterator[Sequence[Event]]:
        for events in self.plain.read(self.plain.user_ids, ALL_KINDS):
            yield events

    async def close(self) -> None:
        """Nothing is open."""

    async def _answer(self) -> None:
        if self.away:
            raise StoreError("away")
        await asyncio.sleep(self.seconds)


def users_of(store: FakeStore, timeout_seconds: float = 5.0) -> Users:
    return Users(store, GatewaySettings(users_timeout_seconds=timeout_seconds), Metrics())


def in_seconds(seconds: float) -> float:
    return asyncio.get_running_loop().time() + seconds


def test_users_of_one_moment_are_read_in_one_round_trip() -> None:
    async def run() -> None:
        store = FakeStore()
        store.plain.append([event("1", user_id=f"user {at}", weight=2.0) for at in range(40)])
        users = users_of(store)
        found = await asyncio.gather(
            *(users.stored_history(f"user {at}", in_seconds(5), with_impressions=False) for at in range(40))
        )
        assert [history.item_ids for history in found] == [["item 1"]] * 40
        assert [history.weights for history in found] == [[2.0]] * 40
        assert store.reads == [([f"user {at}" for at in range(40)], set(HISTORY_KINDS))]
        await users.close()

    asyncio.run(run())


def test_impressions_are_read_for_those_that_need_them() -> None:
    async def run() -> None:
        store = FakeStore()
        store.plain.append([event("1"), event("2", kind=EventKind.IMPRESSION), event("3", kind=EventKind.CLICK)])
        users = users_of(store)
        without, with_impressions = await asyncio.gather(
            users.stored_history("ann", in_seconds(5), with_impressions=False),
            users.stored_history("ann", in_seconds(5), with_impressions=True),
        )
        assert (without.item_ids, without.unclicked_item_ids) == (["item 1"], ())
        assert (with_impressions.item_ids, with_impressions.unclicked_item_ids) == (["item 1"], ["item 2"])
        assert len(store.reads) == 1
        assert await users.events("ann", in_seconds(5)) == store.plain.read(["ann"], ALL_KINDS)[0]
        await users.close()

    asyncio.run(run())


@pytest.mark.parametrize(
    ("store", "timeout_seconds", "code"),
    [
        (FakeStore(away=True), 5.0, grpc.StatusCode.UNAVAILABLE),
        (FakeStore(seconds=0.5), 0.01, grpc.StatusCode.DEADLINE_EXCEEDED),
    ],
)
def test_a_history_that_cannot_be_read_is_missing_with_a_reason(
    store: FakeStore, timeout_seconds: float, code: grpc.StatusCode
) -> None:
    async def run() -> None:
        users = users_of(store, timeout_seconds)
        missing = await users.stored_history("ann", in_seconds(5), with_impressions=True)
        assert missing.item_ids == ()
        assert missing.failure is not None
        assert missing.failure.reason == f"users: {code.name}"
        await users.close()

    asyncio.run(run())


def test_reading_leaves_most_of_a_short_deadline_to_the_stages() -> None:
    async def run() -> None:
        users = users_of(FakeStore(seconds=1.0))
        deadline = in_seconds(1.0)
        missing = await users.stored_history("ann", deadline, with_impressions=True)
        assert missing.failure is not None
        assert asyncio.get_running_loop().time() < deadline
        await users.close()

    asyncio.run(run())


def test_writes_of_one_moment_share_a_transaction_and_succeed_or_fail_with_it() -> None:
    async def run() -> None:
        store = FakeStore()
        users = users_of(store)
        await asyncio.gather(*(users.write([event(str(at))], in_seconds(5)) for at in range(30)))
        assert store.appends == [30]
        store.away = True
        for call in (
            users.write([event("31")], in_seconds(5)),
            users.events("ann", in_seconds(5)),
            users.delete("ann", in_seconds(5)),
        ):
            with pytest.raises(UnavailableError, match="the store of users cannot be used"):
                await call
        store.away, store.seconds = False, 0.5
        with pytest.raises(DeadlineError):
            await users.write([event("32")], in_seconds(0.01))
        await users.close()

    asyncio.run(run())


def test_a_store_that_hangs_does_not_keep_the_gateway_from_stopping(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.users.CLOSE_SECONDS", 0.05)

    async def run() -> None:
        store = FakeStore(seconds=60.0)
        users = users_of(store, 0.01)
        assert (await users.stored_history("ann", in_seconds(5), with_impressions=False)).failure is not None
        started = time.monotonic()
        await users.close()
        assert time.monotonic() - started < store.seconds

    asyncio.run(run())


def test_many_deletions_and_whole_histories_are_refused_before_they_pile_up() -> None:
    async def run() -> None:
        store = FakeStore(seconds=0.01)
        users = users_of(store)
        for ask in (users.delete, users.events):
            outcomes = await asyncio.gather(
                *(ask(f"user {at}", in_seconds(30)) for at in range(200)), return_exceptions=True
            )
            refused = [outcome for outcome in outcomes if isinstance(outcome, OverloadedError)]
            answered = [outcome for outcome in outcomes if not isinstance(outcome, BaseException)]
            assert len(refused) + len(answered) == 200
            assert len(answered) <= MAX_QUEUED_USERS + 1
            # They wait apart from everybody else's.
            assert (await users.stored_history("ann", in_seconds(5), with_impressions=False)).failure is None
        await users.close()

    asyncio.run(run())


def test_a_deletion_is_noted_in_the_answer_log_before_anything_is_deleted(tmp_path: Path) -> None:
    async def run(log: Path) -> FakeStore:
        store = FakeStore()
        store.plain.append([event("1", user_id="ann")])
        users = Users(store, GatewaySettings(users_store="users.db", answer_log=log), Metrics())
        try:
            await users.delete("ann", in_seconds(5))
        finally:
            await users.close()
        return store

    assert asyncio.run(run(tmp_path / "log")).plain.user_ids == []
    assert len(list((tmp_path / "log" / "deleted").iterdir())) == 1
    (tmp_path / "full").touch()
    with pytest.raises(UnavailableError):
        asyncio.run(run(tmp_path / "full"))
