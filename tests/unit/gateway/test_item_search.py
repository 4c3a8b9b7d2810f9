import asyncio
import threading
from collections.abc import Callable, Coroutine, Iterator
from dataclasses import replace
from typing import Any

import pytest

from gateway.item_search import MAX_SEARCHES_IN_FLIGHT, ItemSearch, first_position
from gateway.served_catalogue import ServedCatalogue
from gateway.settings import GatewaySettings
from winnow.rpc.errors import DeadlineError, InvalidRequestError, OverloadedError
from winnow.serving.metrics import Metrics

MAX_QUEUED = 3


def run(work: Callable[[ItemSearch], Coroutine[Any, Any, Any]]) -> Any:
    async def main() -> Any:
        search = ItemSearch(GatewaySettings(max_queued_searches=MAX_QUEUED), Metrics())
        result = await work(search)
        await search.close()
        return result

    return asyncio.run(main())


def in_seconds(seconds: float) -> float:
    return asyncio.get_running_loop().time() + seconds


def titles(catalogue: ServedCatalogue, page_size: int, text: str) -> list[list[str]]:
    """All pages."""

    async def read(search: ItemSearch) -> list[list[str]]:
        pages, token = [], ""
        while True:
            start = first_position(token, catalogue)
            page = await search.find_page(text, page_size, start, catalogue, in_seconds(10))
            pages.append([catalogue.items.title(row) for row in page.rows])
            token = page.next_page_token
            if not token:
                return pages

    pages: list[list[str]] = run(read)
    return pages


def test_pages_together_hold_every_match_once_the_most_popular_first(catalogue: ServedCatalogue) -> None:
    matching = [f"Title {row}" for row in range(300) if "7" in str(row)]
    pages = titles(catalogue, 10, "7")
    assert [title for page in pages for title in page] == matching
    assert [len(page) for page in pages[:-1]] == [10] * (len(pages) - 1)


def test_a_last_page_that_is_full_is_the_last(catalogue: ServedCatalogue) -> None:
    assert titles(catalogue, 11, "title 29") == [["Title 29", *(f"Title 29{digit}" for digit in range(10))]]


def test_nothing_found_is_one_empty_page(catalogue: ServedCatalogue) -> None:
    assert titles(catalogue, 5, "no such title") == [[]]


def test_case_does_not_matter(catalogue: ServedCatalogue) -> None:
    assert titles(catalogue, 5, "tItLe 299") == [["Title 299"]]


@pytest.mark.parametrize(
    "token", ["x", ":", "{}:", "{}:-1", "{}:1x", "{}:300", "{}:99999999999999999999", "another:5", "{}:\u0663"]
)
def test_tokens_that_no_page_has_given(catalogue: ServedCatalogue, token: str) -> None:
    with pytest.raises(InvalidRequestError, match=r"^page_token: "):
        first_position(token.format(catalogue.release_id), catalogue)


class EndlessIndex:
    """A search in it takes for ever, a slice at a time."""

    def __init__(self) -> None:
        self.begun = 0
        self.slices = 0
        self.slice_searched = threading.Event()

    def search(self, _text: str, _start: int, _limit: int) -> Iterator[list[int]]:
        self.begun += 1
        while True:
            self.slices += 1
            self.slice_searched.set()
            yield []


@pytest.fixture
def endless() -> EndlessIndex:
    return EndlessIndex()


@pytest.fixture
def endless_catalogue(catalogue: ServedCatalogue, endless: EndlessIndex) -> ServedCatalogue:
    return replace(catalogue, title_index=endless)  # type: ignore[arg-type]


def test_a_search_ends_when_its_deadline_passes(endless_catalogue: ServedCatalogue, endless: EndlessIndex) -> None:
    async def search_too_long(search: ItemSearch) -> None:
        with pytest.raises(DeadlineError):
            await search.find_page("x", 5, 0, endless_catalogue, in_seconds(0.05))

    run(search_too_long)  # closing waits for searches in flight
    assert endless.slices > 0


def test_a_search_ends_when_its_caller_leaves(endless_catalogue: ServedCatalogue, endless: EndlessIndex) -> None:
    async def leave(search: ItemSearch) -> None:
        caller = asyncio.ensure_future(search.find_page("x", 5, 0, endless_catalogue, in_seconds(600)))
        await asyncio.to_thread(endless.slice_searched.wait)
        caller.cancel()
        with pytest.raises(asyncio.CancelledError):
            await caller

    run(leave)


def test_few_searches_run_at_once_and_few_wait(endless_catalogue: ServedCatalogue, endless: EndlessIndex) -> None:
    async def ask_many(search: ItemSearch) -> None:
        callers = [
            asyncio.ensure_future(search.find_page("x", 5, 0, endless_catalogue, in_seconds(600))) for _ in range(20)
        ]
        while endless.begun < MAX_SEARCHES_IN_FLIGHT:  # noqa: ASYNC110 - the searches are in threads
            await asyncio.sleep(0.01)
        rejected = [caller for caller in callers if caller.done()]
        assert all(isinstance(caller.exception(), OverloadedError) for caller in rejected)
        assert endless.begun == MAX_SEARCHES_IN_FLIGHT
        # All ask in one turn of the event loop, before any search begins.
        assert len(rejected) == len(callers) - MAX_QUEUED
        for caller in callers:
            caller.cancel()
        await asyncio.gather(*callers, return_exceptions=True)

    run(ask_many)
