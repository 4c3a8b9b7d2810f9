"""Events in a server that speaks the Redis protocol, such as Valkey: for gateways on several machines.

A user has four keys: a hash of events by event id, and for each kind a sorted set of event ids by time. Scripts read
and write them, so each call is one round trip, and is done as a whole or not at all. The keys of a user share a hash
tag.
"""

import json
from collections.abc import AsyncIterator, Awaitable, Collection, Iterable, Sequence
from typing import Any, TypeVar, cast
from urllib.parse import quote, unquote

from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import AuthenticationError, AuthorizationError, RedisError

from winnow.users.events import ALL_KINDS, Event, EventKind
from winnow.users.store import StoreError

Result = TypeVar("Result")

CONNECT_SECONDS, ANSWER_SECONDS = 1.0, 2.0
EXPORTED_USERS = 200
MAX_CONNECTIONS = 8

_PREFIX, _EVENTS = "winnow:1:{", "}:events"
_KEYS_PER_USER = 1 + len(ALL_KINDS)

# KEYS are those of the users; ARGV are the limit of each kind and then, for each event, the number of its user, from 0,
# its id, its kind, its time and all of it.
_APPEND = f"""
local limit = tonumber(ARGV[1])
local grown = {{}}
for at = 2, #ARGV, 5 do
  local first = 1 + {_KEYS_PER_USER} * ARGV[at]
  if redis.call('HSETNX', KEYS[first], ARGV[at + 1], ARGV[at + 4]) == 1 then
    local order = first + tonumber(ARGV[at + 2])
    redis.call('ZADD', KEYS[order], ARGV[at + 3], ARGV[at + 1])
    grown[order] = first
  end
end
for order, first in pairs(grown) do
  local excess = redis.call('ZCARD', KEYS[order]) - limit
  if excess > 0 then
    local oldest = redis.call('ZPOPMIN', KEYS[order], excess)
    for at = 1, #oldest, 2 do
      redis.call('HDEL', KEYS[first], oldest[at])
    end
  end
end
"""
# ARGV are the kinds. Returns a list of events for each user, one kind after the other. Lua's stack holds 8,000 ids; a
# user has at most 2,000 of a kind.
_READ = f"""
local found = {{}}
for first = 1, #KEYS, {_KEYS_PER_USER} do
  local events = {{}}
  for _, kind in ipairs(ARGV) do
    local ids = redis.call('ZRANGE', KEYS[first + tonumber(kind)], 0, -1)
    if #ids > 0 then
      for _, event in ipairs(redis.call('HMGET', KEYS[first], unpack(ids))) do
        events[#events + 1] = event
      end
    end
  end
  found[#found + 1] = events
end
return found
"""
_DELETE = """
local count = redis.call('HLEN', KEYS[1])
redis.call('DEL', unpack(KEYS))
return count
"""
_KINDS = {int(kind): kind for kind in EventKind}


class RedisStore:
    """See HistoryStore. What is acknowledged is as safe as the server makes it: see docs/users.md."""

    def __init__(self, url: str, max_events: int) -> None:
        """Keep `max_events` of each kind for each user. Raises ValueError for a wrong URL."""
        self._max_events = max_events
        try:
            # Whoever finds all connections in use waits for one.
            pool = BlockingConnectionPool.from_url(
                url,
                max_connections=MAX_CONNECTIONS,
                timeout=ANSWER_SECONDS,
                socket_connect_timeout=CONNECT_SECONDS,
                socket_timeout=ANSWER_SECONDS,
                # The server may have closed a connection that was idle.
                retry=Retry(NoBackoff(), 1),
            )
        except ValueError:
            # Its text may hold a part of the password.
            raise ValueError("users store: the URL is not one of a Redis server") from None
        self._client = Redis.from_pool(pool)
        self._append = self._client.register_script(_APPEND)
        self._read = self._client.register_script(_READ)
        self._delete = self._client.register_script(_DELETE)

    async def open(self) -> None:
        """See HistoryStore.open. A server that is away may come back; one that lets nobody in is an error."""
        try:
            await self._client.ping()
        except (AuthenticationError, AuthorizationError) as error:
            raise ValueError(f"users store: the server refuses the gateway ({type(error).__name__})") from error
        except (RedisError, OSError):
            return

    async def append(self, events: Sequence[Event]) -> None:
        """See HistoryStore.append."""
        if not events:
            return
        numbers: dict[str, int] = {}
        arguments: list[Any] = [self._max_events]
        for event in events:
            number = numbers.setdefault(event.user_id, len(numbers))
            arguments += number, event.event_id, int(event.kind), event.timestamp_seconds, _packed(event)
        await _answer(self._append(keys=_keys(numbers), args=arguments))

    async def read(self, user_ids: Sequence[str], kinds: Collection[int]) -> list[list[Event]]:
        """See HistoryStore.read."""
        if not user_ids:
            return []
        wanted = sorted({int(kind) for kind in kinds})
        found: list[list[bytes]] = await _answer(self._read(keys=_keys(user_ids), args=wanted))
        histories = []
        for user_id, packed in zip(user_ids, found, strict=True):
            events = [_unpacked(user_id, data) for data in packed]
            if len(wanted) > 1:
                events.sort(key=lambda event: event.position)
            histories.append(events)
        return histories

    async def delete(self, user_id: str) -> int:
        """See HistoryStore.delete."""
        return int(await _answer(self._delete(keys=_keys([user_id]))))

    async def export(self) -> AsyncIterator[Sequence[Event]]:
        """See HistoryStore.export. Remembers the ids of all users meanwhile: the server may list one twice."""
        cursor, seen = 0, set[str]()
        while True:
            cursor, keys = await _answer(self._client.scan(cursor, f"{_PREFIX}*{_EVENTS}", EXPORTED_USERS))
            # Of bytes, as long as the client is not told to decode them.
            texts = [key.decode() for key in cast("list[bytes]", keys)]
            names = [unquote(text.removeprefix(_PREFIX).removesuffix(_EVENTS)) for text in texts]
            user_ids = [user_id for user_id in dict.fromkeys(names) if user_id not in seen]
            seen.update(user_ids)
            for events in await self.read(user_ids, ALL_KINDS):
                if events:
                    yield events
            if cursor == 0:
                return

    async def close(self) -> None:
        """See HistoryStore.close."""
        await self._client.aclose()


async def _answer(asked: Awaitable[Result]) -> Result:
    try:
        return await asked
    except (RedisError, OSError) as error:
        raise StoreError(type(error).__name__) from error


def _keys(user_ids: Iterable[str]) -> list[str]:
    """The keys of each user. Quoted, an id has no brace that could end the hash tag."""
    keys: list[str] = []
    for user_id in user_ids:
        tag = _PREFIX + quote(user_id, safe="")
        keys += tag + _EVENTS, *(f"{tag}}}:{kind.name.lower()}" for kind in EventKind)
    return keys


def _packed(event: Event) -> bytes:
    return json.dumps(
        [
            event.event_id,
            event.kind,
            event.item_id,
            event.timestamp_seconds,
            event.weight,
            event.recommendation_id,
        ],
        ensure_ascii=False,
        separators=(",", ":"),
    ).encode()


def _unpacked(user_id: str, data: bytes) -> Event:
    event_id, kind, item_id, seconds, weight, recommendation_id = json.loads(data)
    return Event(user_id, event_id, _KINDS[kind], item_id, seconds, weight, recommendation_id)
