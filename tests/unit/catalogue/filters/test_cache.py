import numpy as np

from winnow.catalogue.filters.cache import FilterCache
from winnow.catalogue.filters.compiler import CompiledFilter


class Compiler:
    """Counts what it compiles."""

    def __init__(self, item_count: int) -> None:
        self.item_count = item_count
        self.compiled_count = 0

    def __call__(self) -> CompiledFilter:
        self.compiled_count += 1
        bitmap = np.zeros(self.item_count // 8, dtype=np.uint8)
        return CompiledFilter(bitmap=bitmap, item_count=self.item_count, match_count=0)


def test_a_filter_is_compiled_once_for_a_release() -> None:
    cache, compiler = FilterCache(max_bytes=10_000), Compiler(item_count=80)
    first = cache.get("release", "year = 1", compiler)
    assert cache.get("release", "year = 1", compiler) is first
    assert compiler.compiled_count == 1
    assert cache.get("other release", "year = 1", compiler) is not first
    assert cache.get("release", "year = 2", compiler) is not first
    assert len(cache) == 3


def test_the_filters_used_last_are_kept_within_the_limit() -> None:
    cache, compiler = FilterCache(max_bytes=2_500), Compiler(item_count=8_000)
    for text in ("a", "b", "a", "c"):
        cache.get("release", text, compiler)
        assert cache.size_bytes <= 2_500
    assert compiler.compiled_count == 3
    cache.get("release", "a", compiler)
    assert compiler.compiled_count == 3
    cache.get("release", "b", compiler)
    assert compiler.compiled_count == 4


def test_a_filter_larger_than_the_limit_is_returned_and_not_kept() -> None:
    cache = FilterCache(max_bytes=10)
    assert cache.get("release", "a", Compiler(item_count=800)).item_count == 800
    assert (len(cache), cache.size_bytes) == (0, 0)


def test_a_release_that_is_gone_takes_no_memory() -> None:
    cache, compiler = FilterCache(max_bytes=10_000), Compiler(item_count=80)
    cache.get("old", "a", compiler)
    cache.get("new", "a", compiler)
    cache.forget("old")
    assert len(cache) == 1
    cache.get("new", "a", compiler)
    assert compiler.compiled_count == 2
    cache.forget("new")
    assert cache.size_bytes == 0
