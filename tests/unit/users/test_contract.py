"""What every store of histories promises."""

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import asynccontextmanager
from itertools import count
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.redis_server import redis_server
from tests.unit.users.events import EVENTS, PlainStore, event
from winnow.users.addresses import store_at
from winnow.users.events import ALL_KINDS, NO_HISTORY, EventKind, UserHistory
from winnow.users.store import HistoryStore

MAX_EVENTS = 4

Test = Callable[[HistoryStore], Coroutine[Any, Any, None]]


class Stores:
    """Makes empty stores of one kind."""

    def __init__(self, address_of_next: Callable[[], str]) -> None:
        self.next_address = address_of_next

    @asynccontextmanager
    async def empty(self, retention_seconds: float = 0) -> AsyncIterator[HistoryStore]:
        store = store_at(self.next_address(), MAX_EVENTS, retention_seconds)
        await store.open()
        try:
            yield store
        finally:
            await store.close()

    def check(self, test: Test, retention_seconds: float = 0) -> None:
        async def run() -> None:
            async with self.empty(retention_seconds) as store:
                await test(store)

        asyncio.run(run())


@pytest.fixture(scope="module", params=["sqlite", "redis"])
def stores(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stores]:
    directory = tmp_path_factory.mktemp("stores")
    if request.param == "sqlite":
        numbers = count()
        yield Stores(lambda: f"sqlite:///{directory / f'{next(numbers)}.db'}")
        return
    with redis_server(directory) as server:

        def empty() -> str:
            server.command("FLUSHALL")
            return server.address

        yield Stores(empty)


def test_an_unknown_user_has_no_events(stores: Stores) -> None:
    async def test(store: HistoryStore) -> None:
        assert await store.read(["nobody", "nobody else"], ALL_KINDS) == [[], []]
        assert await store.delete("nobody") == 0
        assert await store.read([], ALL_KINDS) == []
        await store.append([])

    stores.check(test)


def test_every_field_of_an_event_comes_back(stores: Stores) -> None:
    async def test(store: HistoryStore) -> None:
        watch = event("1", weight=2.5, recommendation_id="r")
        click = event("2", kind=EventKind.CLICK)
        await store.append([click, watch])
        [found] = await store.read(["ann"], ALL_KINDS)
        assert found == [watch, click]
        assert [type(one.kind) for one in found] == [EventKind, EventKind]

    stores.check(test)


def test_an_event_sent_again_is_the_same_event(stores: Stores) -> None:
    async def test(store: HistoryStore) -> None:
        first = event("1")
        await store.append([first, first])
        await store.append([event("1", item_id="something else", timestamp_seconds=5), event("2")])
        assert await store.read(["ann"], ALL_KINDS) == [[first, event("2")]]

    stores.check(test)


def test_the_same_event_id_of_another_user_is_another_event(stores: Stores) -> None:
    async def test(store: HistoryStore) -> None:
        await store.append([event("1"), event("1", user_id="bob")])
        assert await store.read(["bob", "ann"], ALL_KINDS) == [[event("1", user_id="bob")], [event("1")]]

    stores.check(test)


def test_the_oldest_events_of_a_kind_make_room(stores: Stores) -> None:
    async def test(store: HistoryStore) -> None:
        watches = [event(str(at), timestamp_seconds=100 + at) for at in range(MAX_EVENTS + 3)]
        click = event("click", kind=EventKind.CLICK, timestamp_seconds=1)
        await store.append([click, *reversed(watches)])
        # An event that was dropped is dropped again.
        await store.append(watches[:1])
        assert await store.read(["ann"], ALL_KINDS) == [[click, *watches[3:]]]

    stores.check(test)


def test_a_deleted_user_leaves_nothing_and_can_begin_anew(stores: Stores) -> None:
    async def test(store: HistoryStore) -> None:
        await store.append([event("1"), event("2", kind=EventKind.IMPRESSION), event("1", user_id="bob")])
        assert await store.delete("ann") == 2
        assert await store.read(["ann", "bob"], ALL_KINDS) == [[], [event("1", user_id="bob")]]
        assert [list(part) async for part in store.export()] == [[event("1", user_id="bob")]]
        await store.append([event("1")])
        assert await store.read(["ann"], ALL_KINDS) == [[event("1")]]

    stores.check(test)


def test_the_export_has_every_event_once(stores: Stores) -> None:
    async def test(store: HistoryStore) -> None:
        sent = [event(str(at), user_id=f"user {at % 450}") for at in range(900)]
        await store.append(sent)
        assert sorted([one async for part in store.export() for one in part]) == sorted(sent)

    stores.check(test)


def test_a_user_to_whom_nothing_is_written_vanishes(stores: Stores) -> None:
    async def test(store: HistoryStore) -> None:
        users = [f"user {at}" for at in range(20)]
        for kind in EventKind:
            await store.append([event(f"{kind} {at}", user_id=user, kind=kind) for user in users for at in range(3)])
        give_up = asyncio.get_running_loop().time() + 30
        number = 0
        while any(await store.read(users, ALL_KINDS)):
            assert asyncio.get_running_loop().time() < give_up
            # Only the user's own writes count, whatever they are and whoever else is written to.
            number += 1
            await store.append([event("1", user_id="active", weight=1.0)])
            await asyncio.sleep(0.05)
        assert number > 1
        assert await store.histories(users) == [NO_HISTORY] * len(users)
        assert [list(part) async for part in store.export()] == [[event("1", user_id="active", weight=1.0)]]
        await store.append([event("1", user_id="user 1")])
        assert await store.read(["user 1"], ALL_KINDS) == [[event("1", user_id="user 1")]]

    stores.check(test, retention_seconds=1.5)


def test_without_a_retention_nobody_vanishes_and_one_can_be_taken_back(stores: Stores) -> None:
    async def run() -> None:
        address = stores.next_address()
        brief = store_at(address, MAX_EVENTS, 0.6)
        await brief.open()
        await brief.append([event("1"), event("1", user_id="bob")])
        await brief.close()
        lasting = store_at(address, MAX_EVENTS)
        await lasting.open()
        await lasting.append([event("2", kind=EventKind.CLICK)])
        await asyncio.sleep(1.0)
        [found] = await lasting.read(["ann"], ALL_KINDS)
        assert {one.event_id for one in found} == {"1", "2"}
        await lasting.close()

    asyncio.run(run())


def test_appends_at_the_same_time_lose_nothing(stores: Stores) -> None:
    async def test(store: HistoryStore) -> None:
        sent = [event(str(at), user_id=f"user {at}") for at in range(50)]
        await asyncio.gather(*(store.append([one]) for one in sent))
        assert await store.read([one.user_id for one in sent], ALL_KINDS) == [[one] for one in sent]

    stores.check(test)


async def assert_histories_agree(store: HistoryStore, user_ids: list[str]) -> None:
    """The cheap way to read histories gives what the other one does; weights to 15 digits."""
    expected = map(UserHistory.of, await store.read(user_ids, ALL_KINDS))
    for found, wanted in zip(await store.histories(user_ids), expected, strict=True):
        assert (list(found.item_ids), list(found.times)) == (list(wanted.item_ids), list(wanted.times))
        np.testing.assert_array_equal(np.array(found.weights, np.float32), np.array(wanted.weights, np.float32))
        assert sorted(found.dismissed_item_ids) == sorted(wanted.dismissed_item_ids)


def test_watches_are_read_alone_and_in_order(stores: Stores) -> None:
    async def test(store: HistoryStore) -> None:
        late, early = event("1", timestamp_seconds=20, weight=0.1), event("2", timestamp_seconds=10)
        zero = event("3", user_id="a\0b", item_id='"\0\\é', recommendation_id="r")
        await store.append([late, early, event("4", kind=EventKind.CLICK), zero, event("5", user_id="a")])
        found = await store.histories(["ann", "nobody", "a\0b", "ann"])
        assert [list(watches.item_ids) for watches in found] == [
            ["item 2", "item 1"],
            [],
            ['"\0\\é'],
            ["item 2", "item 1"],
        ]
        await assert_histories_agree(store, ["ann", "nobody", "a\0b", "a"])
        assert await store.histories([]) == []

    stores.check(test)


def test_dismissed_items_are_read_with_the_watches(stores: Stores) -> None:
    async def test(store: HistoryStore) -> None:
        tea, milk = (event(name, kind=EventKind.DISMISSAL, item_id=name) for name in ("tea", "milk"))
        await store.append([tea, event("1"), milk, event("2", user_id="bob", kind=EventKind.DISMISSAL)])
        ann, bob, nobody = await store.histories(["ann", "bob", "nobody"])
        assert (list(ann.item_ids), sorted(ann.dismissed_item_ids)) == (["item 1"], ["milk", "tea"])
        assert (list(bob.item_ids), list(bob.dismissed_item_ids)) == ([], ["item 2"])
        assert nobody == NO_HISTORY
        await store.delete("bob")
        assert await store.histories(["bob"]) == [NO_HISTORY]

    stores.check(test)


def test_64_users_with_long_histories_are_read_together(stores: Stores) -> None:
    async def test(store: HistoryStore) -> None:
        users = [f"user {at}" for at in range(64)]
        sent = [event(str(at), user_id=user, timestamp_seconds=at + 1) for user in users for at in range(MAX_EVENTS)]
        await store.append(sent)
        await assert_histories_agree(store, users)
        assert all(len(watches.times) == MAX_EVENTS for watches in await store.histories(users))

    stores.check(test)


WRITES = st.tuples(st.just("append"), st.lists(EVENTS, max_size=12))
DELETES = st.tuples(st.just("delete"), st.sampled_from(["a", "b", "c"]))


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(operations=st.lists(st.one_of(WRITES, WRITES, DELETES), max_size=8), kinds=st.sets(st.sampled_from(EventKind)))
def test_a_store_does_what_a_dictionary_does(stores: Stores, operations: list[Any], kinds: set[EventKind]) -> None:
    async def test(store: HistoryStore) -> None:
        plain = PlainStore(MAX_EVENTS)
        users = {"a", "b", "c"}
        for name, argument in operations:
            if name == "append":
                users |= {one.user_id for one in argument}
                plain.append(argument)
                await store.append(argument)
            else:
                assert await store.delete(argument) == plain.delete(argument)
            asked = sorted(users)
            for wanted in (ALL_KINDS, kinds):
                assert await store.read(asked, wanted) == plain.read(asked, wanted)
            await assert_histories_agree(store, asked)
        exported = [list(part) async for part in store.export()]
        assert sorted(exported, key=lambda part: part[0].user_id) == plain.read(plain.user_ids, ALL_KINDS)

    stores.check(test)


@settings(max_examples=10, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    sent=st.lists(EVENTS, max_size=20, unique_by=lambda one: (one.user_id, one.event_id)),
    random=st.randoms(use_true_random=False),
)
def test_neither_order_nor_repetition_matters(stores: Stores, sent: list[Any], random: Any) -> None:
    async def test(store: HistoryStore) -> None:
        plain = PlainStore(MAX_EVENTS)
        plain.append(sent)
        mixed = [*sent, *sent]
        random.shuffle(mixed)
        for one in mixed:
            await store.append([one])
        users = sorted({one.user_id for one in sent})
        assert await store.read(users, ALL_KINDS) == plain.read(users, ALL_KINDS)

    stores.check(test)
