"""What attributes and filters cost on a million items: memory of a process, time to open, time to compile a filter.

`python -m benchmarks.filters` prints JSON; it needs a minute and 2 GB, most of both to make the catalogue up.
"""

import json
import multiprocessing
import tempfile
import time
from collections.abc import Iterable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from winnow.catalogue.attributes import Attributes
from winnow.catalogue.filters.checker import read_filter
from winnow.catalogue.filters.compiler import compile_filter
from winnow.catalogue.schema import AttributeType

ITEM_COUNT = 1_000_000
REPEATS = 7
MEBIBYTE = 2**20

TYPES = {
    "category": AttributeType.TEXT,
    "brand": AttributeType.TEXT,
    "sku": AttributeType.TEXT,
    "genres": AttributeType.LIST,
    "tags": AttributeType.LIST,
    "price": AttributeType.NUMBER,
    "rating": AttributeType.NUMBER,
    "year": AttributeType.NUMBER,
    "added": AttributeType.TIMESTAMP,
    "adult": AttributeType.BOOLEAN,
}
FILTERS = {
    "a text of 200 distinct ones": 'category = "category 7"',
    "a text of 60,000": 'brand = "brand 7"',
    "a text of a million": 'sku = "sku-0077777"',
    "texts with a beginning": 'sku = "sku-0777*"',
    "texts with an end": 'sku = "*777"',
    "the commonest genre of 18": "genres:genre0",
    "the commonest tag of 50,000, 4 an item": "tags:tag0",
    "a rare tag": "tags:tag40000",
    "tags with a beginning": "tags:tag1*",
    "a range of numbers": "price >= 10 AND price < 50",
    "a moment": "added > 2020-01-01",
    "a boolean": "adult = true",
    "has a value": "price:*",
    "the example of the page": "genres:genre0 AND year >= 1990 AND NOT adult = true",
    "one comparison of each type": (
        'category = "category 3" AND brand != "brand 9" AND tags:tag5 AND price < 90 AND added > 2015-06-01 '
        "AND adult = false"
    ),
    "three tags of three": "tags:tag0 AND tags:tag1 AND (tags:tag2 OR tags:tag3)",
    "one of 100 brands": f"brand = ({' OR '.join(f'{chr(34)}brand {n}{chr(34)}' for n in range(100))})",
    "one of 100 years": f"year = ({' OR '.join(map(str, range(1900, 2000)))})",
    "one of 100 tags": f"tags:({' OR '.join(f'tag{n}' for n in range(100))})",
}


def main() -> None:
    """Make a catalogue, measure in processes of their own, print."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "attributes.safetensors"
        build_seconds = _apart(write_catalogue, path)
        results = {
            "item_count": ITEM_COUNT,
            "build_seconds": build_seconds,
            "file_mebibytes": round(path.stat().st_size / MEBIBYTE, 1),
            "memory": _apart(measure_memory, path),
            "compile_milliseconds": _apart(measure_compilation, path),
        }
    print(json.dumps(results, indent=1))


def write_catalogue(path: Path) -> float:
    """Write the attributes of a million items. Return the seconds that took."""
    values = values_of(ITEM_COUNT)
    started = time.process_time()
    Attributes.from_values(values, TYPES, ITEM_COUNT).save(path)
    return round(time.process_time() - started, 1)


def values_of(item_count: int) -> dict[str, Iterable[object]]:
    """Make up ten attributes of some items; a tenth of the values are missing."""
    rng = np.random.default_rng(0)

    def names(prefix: str, count: int) -> list[str | None]:
        numbers = (count * rng.random(item_count) ** 3).astype(int)
        gaps = rng.random(item_count) < 0.1
        return [None if gap else f"{prefix}{n}" for n, gap in zip(numbers.tolist(), gaps.tolist(), strict=True)]

    def lists(prefix: str, distinct: int, longest: int) -> Iterable[list[str]]:
        lengths = rng.integers(0, longest + 1, item_count)
        numbers = (distinct * rng.random(int(lengths.sum())) ** 3).astype(int)
        for part in np.split(numbers, np.cumsum(lengths)[:-1]):
            yield [f"{prefix}{number}" for number in part.tolist()]

    def numbers(values: np.ndarray) -> np.ndarray:
        return np.where(rng.random(item_count) < 0.1, np.nan, values)

    moments = rng.integers(1_262_304_000, 1_735_689_600, item_count) * 1_000_000
    return {
        "category": names("category ", 200),
        "brand": names("brand ", 60_000),
        "sku": [f"sku-{number:07}" for number in range(item_count)],
        "genres": lists("genre", 18, 4),
        "tags": lists("tag", 50_000, 8),
        "price": numbers(rng.gamma(2, 20, item_count).round(2)),
        "rating": numbers(rng.uniform(1, 5, item_count).round(1)),
        "year": numbers(rng.integers(1920, 2026, item_count)),
        "added": moments.astype("datetime64[us]"),
        "adult": [None if number == 0 else number == 1 for number in rng.integers(0, 10, item_count).tolist()],
    }


def measure_memory(path: Path) -> dict[str, Any]:
    """Private memory, in MiB, that this process takes for the attributes, while another one holds them as well."""
    before = private_mebibytes()
    started = time.process_time()
    attributes = Attributes.open(path)
    opening_seconds = time.process_time() - started
    opened = private_mebibytes() - before
    schema = attributes.schema
    for text in FILTERS.values():
        compile_filter(read_filter(text, schema), attributes)
    used_alone = private_mebibytes() - before
    with ProcessPoolExecutor(max_workers=1, mp_context=multiprocessing.get_context("spawn")) as other:
        other.submit(_open_and_use, path).result()
        used_beside_another = private_mebibytes() - before
    return {
        "opening_seconds": round(opening_seconds, 3),
        "opened": round(opened, 1),
        "every_filter_compiled_alone": round(used_alone, 1),
        "every_filter_compiled_beside_another_process": round(used_beside_another, 1),
    }


def measure_compilation(path: Path) -> dict[str, dict[str, float]]:
    """Milliseconds of one core to parse and to compile each filter: the median of several, and the first."""
    attributes = Attributes.open(path)
    schema = attributes.schema
    results = {}
    for name, text in FILTERS.items():
        parsing, compiling = [], []
        for _ in range(REPEATS):
            started = time.thread_time()
            expression = read_filter(text, schema)
            parsing.append(time.thread_time() - started)
            started = time.thread_time()
            compiled = compile_filter(expression, attributes)
            compiling.append(time.thread_time() - started)
        results[name] = {
            "parse": round(float(np.median(parsing)) * 1000, 2),
            "compile_first": round(compiling[0] * 1000, 2),
            "compile": round(float(np.median(compiling)) * 1000, 2),
            "selectivity": round(compiled.match_count / ITEM_COUNT, 6),
        }
    return results


def private_mebibytes() -> float:
    """Memory that only this process has: Private_Clean and Private_Dirty."""
    lines = Path("/proc/self/smaps_rollup").read_text().splitlines()
    return sum(int(line.split()[1]) for line in lines if line.startswith("Private_")) / 1024


_kept: list[Attributes] = []


def _open_and_use(path: Path) -> None:
    attributes = Attributes.open(path)
    _kept.append(attributes)
    schema = attributes.schema
    for text in FILTERS.values():
        compile_filter(read_filter(text, schema), attributes)


def _apart(function: Any, path: Path) -> Any:
    with ProcessPoolExecutor(max_workers=1, mp_context=multiprocessing.get_context("spawn")) as pool:
        return pool.submit(function, path).result()


if __name__ == "__main__":
    main()
