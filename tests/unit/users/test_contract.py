"""What every store of histories promises."""

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import asynccontextmanager
from itertools import count
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.redis_server import redis_server
from tests.unit.users.events import EVENTS, PlainStore, event
from winnow.users.addresses import store_at
from winnow.users.events import ALL_KINDS, EventKind
from winnow.users.store import HistoryStore

MAX_EVENTS = 4

Test = Callable[[HistoryStore], Coroutine[Any, Any, None]]


class Stores:
    """Makes empty stores of one kind."""

    def __init__(self, address_of_next: Callable[[], str]) -> None:
        self._address_of_next = address_of_next

    @asynccontextmanager
    async def empty(self) -> AsyncIterator[HistoryStore]:
        store = store_at(self._address_of_next(), MAX_EVENTS)
        await store.open()
        try:
            yield store
        finally:
            await store.close()

    def check(self, test: Test) -> None:
        async def run() -> None:
            async with self.empty() as store:
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


def test_appends_at_the_same_time_lose_nothing(stores: Stores) -> None:
    async def test(store: HistoryStore) -> None:
        sent = [event(str(at), user_id=f"user {at}") for at in range(50)]
        await asyncio.gather(*(store.append([one]) for one in sent))
        assert await store.read([one.user_id for one in sent], ALL_KINDS) == [[one] for one in sent]

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
