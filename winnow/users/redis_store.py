"""Events in a server that speaks the Redis protocol, such as Valkey: for gateways on several machines.

A user has two keys for each kind: a hash of events by event id, and a sorted set of event ids by time. Scripts read and
write them, so each call is one round trip, and is done as a whole or not at all. The keys of a user share a hash tag.
Both kinds of keys are small enough for the server's compact encodings, as long as ids are not long. A server that
evicts keys may hold one without the other: then there are no such events.
"""

import json
from collections.abc import AsyncIterator, Awaitable, Collection, Iterable, Sequence
from itertools import islice
from typing import Any, TypeVar, cast
from urllib.parse import quote, unquote

from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import AuthenticationError, AuthorizationError, RedisError

from winnow.users.events import ALL_KINDS, NO_HISTORY, Event, EventKind, UserHistory
from winnow.users.store import StoreError

Result = TypeVar("Result")

CONNECT_SECONDS, ANSWER_SECONDS = 1.0, 2.0
EXPORTED_USERS = 200
MAX_CONNECTIONS = 8

_PREFIX = "winnow:2:{"
# A hash of events by event id for each kind, and after these a sorted set of event ids by time for each kind.
_NAMES = [kind.name.lower() for kind in EventKind]
_SUFFIXES = [*(f"}}:{name}" for name in _NAMES), *(f"}}:{name}:times" for name in _NAMES)]
# The watches, their ids by time, and the dismissals.
_SUFFIXES_OF_HISTORY = [
    _SUFFIXES[EventKind.WATCH - 1],
    _SUFFIXES[len(EventKind) + EventKind.WATCH - 1],
    _SUFFIXES[EventKind.DISMISSAL - 1],
]

# KEYS are those of the users, as in _SUFFIXES; ARGV are the limit of each kind, the retention in milliseconds and then,
# for each event, the number of its user, from 0, its id, its kind, its time and the rest of it. Keys of a user expire
# together: time stands still while a script runs.
_APPEND = f"""
local kinds, limit, retention = {len(EventKind)}, tonumber(ARGV[1]), tonumber(ARGV[2])
local grown = {{}}
for at = 3, #ARGV, 5 do
  local before, event = 2 * kinds * ARGV[at], ARGV[at + 1]
  local known = 0
  for kind = 1, kinds do
    known = known + redis.call('HEXISTS', KEYS[before + kind], event)
  end
  if known == 0 then
    local events = before + tonumber(ARGV[at + 2])
    redis.call('HSET', KEYS[events], event, ARGV[at + 4])
    redis.call('ZADD', KEYS[events + kinds], ARGV[at + 3], event)
    grown[events] = true
  end
end
for events in pairs(grown) do
  local excess = redis.call('ZCARD', KEYS[events + kinds]) - limit
  if excess > 0 then
    local oldest = redis.call('ZPOPMIN', KEYS[events + kinds], excess)
    for at = 1, #oldest, 2 do
      redis.call('HDEL', KEYS[events], oldest[at])
    end
  end
end
for _, key in ipairs(KEYS) do
  if retention > 0 then
    redis.call('PEXPIRE', key, retention)
  else
    redis.call('PERSIST', key)
  end
end
"""
# Returns a list for each user: for each kind, the ids in order and after them the events in any order, with their ids.
_READ = f"""
local kinds = {len(EventKind)}
local found = {{}}
for before = 0, #KEYS - 1, 2 * kinds do
  local events = {{}}
  for _, kind in ipairs(ARGV) do
    events[#events + 1] = redis.call('ZRANGE', KEYS[before + kinds + kind], 0, -1)
    events[#events + 1] = redis.call('HGETALL', KEYS[before + kind])
  end
  found[#found + 1] = events
end
return found
"""
# KEYS are three for each user, as in _SUFFIXES_OF_HISTORY. Returns one JSON text, which is read at once, of all users.
_HISTORIES = """
local found = {}
for first = 1, #KEYS, 3 do
  local event_of, events = {}, redis.call('HGETALL', KEYS[first])
  for at = 1, #events, 2 do
    event_of[events[at]] = events[at + 1]
  end
  local ordered = {}
  for _, id in ipairs(redis.call('ZRANGE', KEYS[first + 1], 0, -1)) do
    ordered[#ordered + 1] = event_of[id]
  end
  found[#found + 1] = '[' .. table.concat(ordered, ',') .. ']'
  found[#found + 1] = '[' .. table.concat(redis.call('HVALS', KEYS[first + 2]), ',') .. ']'
end
return '[' .. table.concat(found, ',') .. ']'
"""
_DELETE = f"""
local count = 0
for kind = 1, {len(EventKind)} do
  count = count + redis.call('HLEN', KEYS[kind])
end
redis.call('DEL', unpack(KEYS))
return count
"""
_KINDS = {int(kind): kind for kind in EventKind}


class RedisStore:
    """See HistoryStore. What is acknowledged is as safe as the server makes it: see docs/users.md."""

    def __init__(self, url: str, max_events: int, retention_seconds: float = 0) -> None:
        """`store_at` says what is kept. Raises ValueError for a wrong URL."""
        self._max_events = max_events
        self._retention_milliseconds = round(retention_seconds * 1000)
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
        self._histories = self._client.register_script(_HISTORIES)
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
        arguments: list[Any] = [self._max_events, self._retention_milliseconds]
        for event in events:
            number = numbers.setdefault(event.user_id, len(numbers))
            arguments += number, event.event_id, int(event.kind), event.timestamp_seconds, _packed(event)
        await _answer(self._append(keys=_keys(numbers), args=arguments))

    async def read(self, user_ids: Sequence[str], kinds: Collection[int]) -> list[list[Event]]:
        """See HistoryStore.read."""
        if not user_ids:
            return []
        wanted = sorted({int(kind) for kind in kinds})
        found: list[list[list[bytes]]] = await _answer(self._read(keys=_keys(user_ids), args=wanted))
        histories = []
        for user_id, parts in zip(user_ids, found, strict=True):
            events: list[Event] = []
            for kind, ids, packed in zip(wanted, parts[::2], parts[1::2], strict=True):
                event_of = dict(zip(packed[::2], packed[1::2], strict=True))
                events += [
                    _unpacked(user_id, _KINDS[kind], event_id, event_of[event_id])
                    for event_id in ids
                    if event_id in event_of
                ]
            if len(wanted) > 1:
                events.sort(key=lambda event: event.position)
            histories.append(events)
        return histories

    async def histories(self, user_ids: Sequence[str]) -> list[UserHistory]:
        """See HistoryStore.histories."""
        if not user_ids:
            return []
        found: bytes = await _answer(self._histories(keys=_keys(user_ids, _SUFFIXES_OF_HISTORY)))
        parts = json.loads(found)
        return [_history(*part) for part in zip(parts[::2], parts[1::2], strict=True)]

    async def delete(self, user_id: str) -> int:
        """See HistoryStore.delete."""
        return int(await _answer(self._delete(keys=_keys([user_id]))))

    async def export(self) -> AsyncIterator[Sequence[Event]]:
        """See HistoryStore.export. Remembers the ids of all users meanwhile: the server may list one twice."""
        cursor, seen = 0, set[str]()
        while True:
            cursor, keys = await _answer(self._client.scan(cursor, f"{_PREFIX}*", EXPORTED_USERS))
            # Of bytes, as long as the client is not told to decode them.
            tags = [key.decode().removeprefix(_PREFIX).partition("}")[0] for key in cast("list[bytes]", keys)]
            names = list(map(unquote, tags))
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


def _keys(user_ids: Iterable[str], suffixes: Sequence[str] = _SUFFIXES) -> list[str]:
    """The keys of each user. Quoted, an id has no brace that could end the hash tag."""
    tags = [_PREFIX + quote(user_id, safe="") for user_id in user_ids]
    return [tag + suffix for tag in tags for suffix in suffixes]


def _history(watches: Sequence[Sequence[Any]], dismissals: Sequence[Sequence[Any]]) -> UserHistory:
    if not watches and not dismissals:
        return NO_HISTORY
    # The recommendation id, where there is one, is not among the first three.
    item_ids, weights, times = islice(zip(*watches, strict=False), 3) if watches else NO_HISTORY[:3]
    return UserHistory(item_ids, weights, times, [dismissal[0] for dismissal in dismissals])


def _packed(event: Event) -> bytes:
    """All but user, kind and event id."""
    fields = [event.item_id, event.weight, event.timestamp_seconds]
    if event.recommendation_id:
        fields.append(event.recommendation_id)
    return json.dumps(fields, ensure_ascii=False, separators=(",", ":")).encode()


def _unpacked(user_id: str, kind: EventKind, event_id: bytes, packed: bytes) -> Event:
    item_id, weight, seconds, *recommendation_id = json.loads(packed)
    return Event(user_id, event_id.decode(), kind, item_id, seconds, weight, *recommendation_id)
