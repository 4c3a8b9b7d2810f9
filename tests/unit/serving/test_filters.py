"""Filters are compiled beside the event loop, each once."""

import asyncio
import gc
import threading
from dataclasses import dataclass, field

import pytest

from winnow.rpc.errors import OverloadedError
from winnow.serving.filters import MAX_WAITING, CompiledFilters


@dataclass
class Text:
    """A filter that is compiled to its own text."""

    text: str
    size_bytes: int = 1_000


@dataclass
class Compiler:
    """Waits until it may go on."""

    may_go_on: threading.Event = field(default_factory=threading.Event)
    texts: list[str] = field(default_factory=list)
    threads: set[int] = field(default_factory=set)

    def __call__(self, text: str) -> Text:
        self.threads.add(threading.get_ident())
        self.texts.append(text)
        assert self.may_go_on.wait(10)
        if text == "wrong":
            raise ValueError("wrong cannot be compiled")
        return Text(text)


def test_callers_of_the_same_filter_wait_for_one_compilation_and_the_loop_goes_on() -> None:
    compiler = Compiler()
    filters = CompiledFilters(compiler, max_bytes=10_000)

    async def main() -> None:
        waiting = [asyncio.ensure_future(filters.get(text)) for text in ("a", "a", "b", "a")]
        await asyncio.sleep(0.01)  # the loop is not held
        waiting[0].cancel()
        compiler.may_go_on.set()
        assert [found.text for found in await asyncio.gather(*waiting[1:])] == ["a", "b", "a"]
        assert (await filters.get("a")).text == "a"

    asyncio.run(main())
    assert compiler.texts == ["a", "b"]
    assert threading.get_ident() not in compiler.threads
    assert filters.get_here("b").text == "b"
    assert compiler.texts == ["a", "b"]


def test_what_cannot_be_compiled_is_raised_and_tried_again() -> None:
    compiler = Compiler()
    compiler.may_go_on.set()
    filters = CompiledFilters(compiler, max_bytes=10_000)

    async def main() -> None:
        for _ in range(2):
            with pytest.raises(ValueError, match="wrong cannot be compiled"):
                await filters.get("wrong")

    asyncio.run(main())
    assert compiler.texts == ["wrong", "wrong"]


def test_no_more_than_a_bounded_number_of_new_filters_wait() -> None:
    compiler = Compiler()
    filters = CompiledFilters(compiler, max_bytes=10_000_000)

    async def main() -> None:
        waiting = [asyncio.ensure_future(filters.get(str(number))) for number in range(MAX_WAITING)]
        await asyncio.sleep(0)
        with pytest.raises(OverloadedError, match="too many new filters"):
            await filters.get("one more")
        compiler.may_go_on.set()
        await asyncio.gather(*waiting)
        assert (await filters.get("one more")).text == "one more"

    asyncio.run(main())


def test_what_cannot_be_compiled_is_not_logged_where_its_callers_have_left() -> None:
    """It used to be: as an exception that was never retrieved, with a part of the filter in it."""
    compiler = Compiler()
    logged: list[dict[str, object]] = []

    async def main() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda _loop, context: logged.append(context))
        filters = CompiledFilters(compiler, max_bytes=10_000)
        caller = asyncio.ensure_future(filters.get("wrong"))
        await asyncio.sleep(0.01)
        caller.cancel()
        await asyncio.gather(caller, return_exceptions=True)
        del caller
        compiler.may_go_on.set()
        await filters.get("right")  # compiled after the other one
        gc.collect()

    asyncio.run(main())
    assert logged == []
