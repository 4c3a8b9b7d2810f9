import numpy as np

from winnow.catalogue.filters.cache import FilterCache
from winnow.catalogue.filters.compiler import CompiledFilter


class Compiler:
    """Counts what it compiles."""

    def __init__(self, item_count: int) -> None:
        self.item_count = item_count
        self.compiled_count = 0

    def __call__(self, _canonical: str) -> CompiledFilter:
        self.compiled_count += 1
        bitmap = np.zeros(self.item_count // 8, dtype=np.uint8)
        return CompiledFilter(bitmap=bitmap, item_count=self.item_count, match_count=0)


def test_a_filter_is_compiled_once() -> None:
    compiler = Compiler(item_count=80)
    cache = FilterCache(compiler, max_bytes=10_000)
    assert cache.find("year = 1") is None
    first = cache.get("year = 1")
    assert cache.get("year = 1") is cache.find("year = 1") is first
    assert compiler.compiled_count == 1
    assert cache.get("year = 2") is not first
    assert len(cache) == 2


def test_the_filters_used_last_are_kept_within_the_limit() -> None:
    compiler = Compiler(item_count=8_000)
    cache = FilterCache(compiler, max_bytes=2_500)
    for text in ("a", "b", "a", "c"):
        cache.get(text)
        assert cache.size_bytes <= 2_500
    assert compiler.compiled_count == 3
    cache.get("a")
    assert compiler.compiled_count == 3
    cache.get("b")
    assert compiler.compiled_count == 4


def test_a_filter_larger_than_the_limit_is_returned_and_not_kept() -> None:
    cache = FilterCache(Compiler(item_count=800), max_bytes=10)
    assert cache.get("a").item_count == 800
    assert (len(cache), cache.size_bytes) == (0, 0)
