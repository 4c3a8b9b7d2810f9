"""The CPU time that neighbour tables add to the retrieval of candidates.

    python -m benchmarks.neighbours

Networks and tables are random. Searches with and without tables alternate, on one thread; the user vectors are the same
work in both. The candidates with tables are compared with those of the plain scores of all items.
"""

import argparse
import time
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import torch

from winnow.history import WatchHistories
from winnow.index.exact import ExactIndex
from winnow.index.raised import with_raised
from winnow.index.selection import Selection
from winnow.networks.candidate import DeepCandidateGenerationModel
from winnow.networks.options import CandidateOptions, NeighbourOptions
from winnow.queries import Candidates, RetrievalQuery
from winnow.training.neighbour_tables import LARGEST_TABLE

DIMENSIONS = 64
COUNT = 200
REPETITIONS = 30


class Case(NamedTuple):
    """A catalogue, the watches of a history, and how many of them the tables look up."""

    item_count: int
    watch_count: int
    latest_counts: Sequence[int]


CASES = (
    Case(12_000, 6, (32, 20)),
    Case(12_000, 50, (50, 20)),
    Case(1_000_000, 6, (32, 20)),
    Case(1_000_000, 50, (50, 20)),
)


def main() -> None:
    """Measure and print."""
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    torch.set_num_threads(1)
    for case in CASES:
        for query_count in (1, 16):
            measure(case, query_count)


@torch.inference_mode()
def measure(case: Case, query_count: int) -> None:
    """Measure one case with batches of so many queries, and check one answer."""
    rng = np.random.default_rng(1)
    width = min(100, LARGEST_TABLE // case.item_count)
    tables = tuple(
        NeighbourOptions(neighbour_count=width, latest_count=count, recency_decay=0.8) for count in case.latest_counts
    )
    network = DeepCandidateGenerationModel(
        case.item_count, DIMENSIONS, DIMENSIONS, 1, 1, CandidateOptions(neighbours=tables)
    )
    for table in network.neighbours.tables:
        rows = rng.integers(0, case.item_count, (case.item_count, width))
        table.fill(torch.from_numpy(rows), torch.rand(case.item_count, width), weight=0.01)
    histories = WatchHistories.from_lists(
        [rng.integers(0, case.item_count, case.watch_count).tolist() for _ in range(query_count)]
    )
    query = RetrievalQuery(
        histories=histories, counts=np.full(query_count, COUNT, dtype=np.int32), exclusions=histories
    )
    packed = network.pack(histories)
    user_BH = network.user_vectors(packed)
    index = ExactIndex(network.item_vectors_IH)
    found = index.search(user_BH, query)

    def add() -> Candidates:
        raised = network.neighbours.item_scores(packed).lists(query_count)
        return with_raised(
            found, raised, user_BH, network.item_vectors_IH, query,
            retired=np.empty(0, dtype=np.int32), selection_of=no_selection,
        )  # fmt: skip

    scores_I = network.scores(network.pack(histories.slice(0, 1)))[0]
    scores_I[torch.from_numpy(histories[0]).long()] = -torch.inf
    np.testing.assert_allclose(add().scores[:COUNT], scores_I.topk(COUNT).values, rtol=1e-4)
    raised_count = len(network.neighbours.item_scores(packed).rows) / query_count
    milliseconds = [median_cpu_ms(work) / query_count for work in (lambda: index.search(user_BH, query), add)]
    print(
        f"{case.item_count:,} items, {case.watch_count} watches, {len(tables)} tables of {width}, "
        f"batch of {query_count}: {raised_count:,.0f} items are raised; exact search {milliseconds[0]:.2f} ms of CPU "
        f"a query, tables {milliseconds[1]:.2f} ms",
        flush=True,
    )


def no_selection(canonical: str) -> Selection:
    """No query has a filter here."""
    raise AssertionError(canonical)


def median_cpu_ms(work: Callable[[], object]) -> float:
    """Return the median CPU time of some repetitions, in milliseconds."""
    taken = []
    for _ in range(REPETITIONS):
        began = time.process_time()
        work()
        taken.append(time.process_time() - began)
    return 1000 * float(np.median(taken))


if __name__ == "__main__":
    main()
