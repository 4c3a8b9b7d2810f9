"""What a filter costs in the search for candidates, and how many of the best it finds, on a million items.

`python -m benchmarks.filtered_search` prints JSON. It needs about ten minutes and 4 GB, most of both to make the
catalogue up. Times are of the process's CPU, and each is a ratio to an unfiltered search just before it: they hold on a
machine that has other work too.
"""

import json
import statistics
import time
from collections.abc import Callable

import numpy as np
import torch

from benchmarks.presets import PAPER
from benchmarks.synthetic import make_candidates
from winnow.catalogue.filters.compiler import CompiledFilter
from winnow.index.approximate import ApproximateIndex
from winnow.index.choose import choose_index, recall_of_each
from winnow.index.exact import ExactIndex
from winnow.index.selection import Selection
from winnow.queries import Candidates, RetrievalQuery

SELECTIVITIES = (0.5, 0.1, 0.03, 0.01, 0.003, 0.001, 1e-6)
TUNING_USERS, USERS = 500, 200
CANDIDATES = 200
QUERIES = 16
BATCHES = (1, QUERIES)
REPEATS = 15


def main() -> None:
    """Make a catalogue and its index, measure, print."""
    torch.set_num_threads(1)
    items_IH, users_BH = make_candidates(PAPER, TUNING_USERS + USERS)
    index = choose_index(items_IH, users_BH[:TUNING_USERS]).index
    if not isinstance(index, ApproximateIndex):
        raise AssertionError("a million items are not searched one by one")
    print(json.dumps(measure(items_IH, users_BH[TUNING_USERS:], index), indent=1))


def measure(items_IH: torch.Tensor, users_BH: torch.Tensor, index: ApproximateIndex) -> dict[str, object]:
    """Recall and relative time of filters that match random items, and of one that matches those far from the user."""
    filters = {f"random {selectivity:g}": random_filter(len(items_IH), selectivity) for selectivity in SELECTIVITIES}
    # What correlates with the vectors: the items that are farthest from one user, or nearest to one.
    along_I = items_IH @ users_BH[0]
    for share in (0.5, 0.1, 0.01):
        farthest = along_I.kthvalue(int(share * len(along_I))).values
        nearest = along_I.kthvalue(len(along_I) - int(share * len(along_I))).values
        filters[f"farthest {share:g}"] = filter_of((along_I <= farthest).numpy())
        filters[f"nearest {share:g}"] = filter_of((along_I > nearest).numpy())
    exact = ExactIndex(items_IH)
    results: dict[str, object] = {
        "item_count": len(items_IH),
        "list_count": index.list_count,
        "probe_count": index.probe_count,
        "unfiltered_milliseconds_per_query": {
            str(batch): round(1000 * statistics.median(unfiltered_seconds(index, users_BH, batch)) / QUERIES, 2)
            for batch in BATCHES
        },
    }
    for name, compiled in filters.items():
        started = time.process_time()
        selection = index.select(compiled)
        preparing_seconds = time.process_time() - started
        query = RetrievalQuery.without_histories(np.full(len(users_BH), CANDIDATES, dtype=np.int32))
        found = index.search_selected(users_BH, query, selection).rows
        best = exact.search_selected(users_BH, query, exact.select(compiled)).rows
        recall = recall_of_each(found, best) if len(best.rows) else np.ones(1)
        results[name] = {
            "matches": compiled.match_count,
            "recall_at_200": round(float(recall.mean()), 4),
            "recall_at_200_of_the_worst_tenth": round(float(np.quantile(recall, 0.1)), 4),
            "preparing_milliseconds": round(1000 * preparing_seconds, 1),
            "time_relative_to_unfiltered": {
                str(batch): relative_time(index, users_BH, batch, selection) for batch in BATCHES
            },
        }
    return results


def random_filter(item_count: int, selectivity: float) -> CompiledFilter:
    """Return a filter that matches random items."""
    rng = np.random.default_rng(int(1 / selectivity))
    mask = np.zeros(item_count, dtype=np.bool_)
    mask[rng.choice(item_count, max(1, round(selectivity * item_count)), replace=False)] = True
    return filter_of(mask)


def filter_of(mask: np.ndarray) -> CompiledFilter:
    """Return a filter that matches the items of a mask."""
    bitmap = np.packbits(mask, bitorder="little")
    return CompiledFilter(bitmap=bitmap, item_count=len(mask), match_count=int(mask.sum()))


def unfiltered_seconds(index: ApproximateIndex, users_BH: torch.Tensor, batch: int) -> list[float]:
    """CPU seconds of searches without a filter."""
    return [seconds_of(index.search, users_BH, batch, repeat) for repeat in range(REPEATS)]


def relative_time(index: ApproximateIndex, users_BH: torch.Tensor, batch: int, selection: Selection) -> float:
    """Median ratio of the CPU time of a filtered search to that of an unfiltered one for the same users."""

    def filtered(user_BH: torch.Tensor, query: RetrievalQuery) -> Candidates:
        return index.search_selected(user_BH, query, selection)

    seconds_of(filtered, users_BH, batch, 0)
    ratios = []
    for repeat in range(REPEATS):
        unfiltered = seconds_of(index.search, users_BH, batch, repeat)
        ratios.append(seconds_of(filtered, users_BH, batch, repeat) / unfiltered)
    return round(statistics.median(ratios), 2)


def seconds_of(
    search: Callable[[torch.Tensor, RetrievalQuery], object], users_BH: torch.Tensor, batch: int, repeat: int
) -> float:
    """CPU seconds of the searches for QUERIES users, so many at once."""
    searches = QUERIES // batch
    query = RetrievalQuery.without_histories(np.full(batch, CANDIDATES, dtype=np.int32))
    started = time.process_time()
    for number in range(searches):
        first = (repeat * searches + number) * batch % (len(users_BH) - batch)
        search(users_BH[first : first + batch], query)
    return time.process_time() - started


if __name__ == "__main__":
    main()
