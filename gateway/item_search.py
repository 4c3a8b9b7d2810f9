"""Search by title, a page at a time: a few searches at once, each off the event loop, bounded in number and time."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field

from gateway.checks import Violations
from gateway.served_catalogue import ServedCatalogue
from gateway.settings import GatewaySettings
from winnow.batching import BatchingLimits, MicroBatcher
from winnow.serving.metrics import Metrics

# Searching competes with everything else for the one Python thread: two keep each other's pauses filled.
MAX_SEARCHES_IN_FLIGHT = 2


@dataclass(frozen=True, slots=True)
class Page:
    """Rows of the items found, and the token of the page after it; empty on the last one."""

    rows: list[int]
    next_page_token: str


@dataclass(slots=True, eq=False)
class _Search:
    text: str
    start: int
    """In the order of popularity."""
    limit: int
    catalogue: ServedCatalogue
    abandoned: bool = field(default=False)
    """Nobody waits for it any more."""


class ItemSearch:
    """Searches titles. What finds too many searches before it is rejected."""

    def __init__(self, settings: GatewaySettings, metrics: Metrics) -> None:
        limits = BatchingLimits(
            max_batch_weight=1,
            max_batches_in_flight=MAX_SEARCHES_IN_FLIGHT,
            max_queued_weight=settings.max_queued_searches,
        )
        self._batches = MicroBatcher[_Search, list[int]](_run, limits, metrics.queue("search"))

    async def find_page(
        self, title_contains: str, page_size: int, start: int, catalogue: ServedCatalogue, deadline: float
    ) -> Page:
        """Return the most popular items from position `start` on whose title contains the text, ignoring case.

        `deadline` is event-loop time. Raises OverloadedError, DeadlineError and UnavailableError as MicroBatcher does.
        """
        search = _Search(title_contains, start, page_size + 1, catalogue)
        try:
            found = await self._batches.submit(search, deadline=deadline)
        finally:
            search.abandoned = True
        rows = catalogue.popular_rows[found[:page_size]].tolist()
        more = len(found) > page_size
        return Page(rows, f"{catalogue.release_id}:{found[page_size]}" if more else "")

    async def close(self) -> None:
        """Wait for searches in flight."""
        await self._batches.close()


def first_position(page_token: str, catalogue: ServedCatalogue) -> int:
    """Return where in the order of popularity the page begins. Raises InvalidRequestError for a token of no use."""
    if not page_token:
        return 0
    violations = Violations()
    release_id, _, position = page_token.rpartition(":")
    if release_id != catalogue.release_id:
        violations.add("page_token", f"is not of release {catalogue.release_id}, which is served now: search again")
    elif not (position.isascii() and position.isdigit() and int(position[:12]) < len(catalogue.popular_rows)):
        violations.add("page_token", "is not one that a page has given")
    violations.refuse()
    return int(position)


async def _run(searches: Sequence[_Search], _deadline: float) -> list[list[int]]:
    [search] = searches
    loop = asyncio.get_running_loop()
    slices = search.catalogue.title_index.search(search.text, search.start, search.limit)
    found: list[int] = []
    while not search.abandoned:
        # A slice at a time: whatever else is ready runs between two.
        matches = await loop.run_in_executor(None, next, slices, None)
        if matches is None:
            break
        found += matches
    return [found]
