"""The cost of a search as the catalogue grows: a full scan, and inverted lists tuned to a target recall.

`python -m benchmarks.growth 10000000` measures one more size. Ten million vectors are a mapped file of 10 GB below
runs/; this takes half an hour and 8 GB of memory besides the page cache.
"""

import json
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.presets import PAPER, Preset, at_size
from benchmarks.synthetic import make_candidates
from winnow.index.approximate import ApproximateIndex
from winnow.index.choose import TARGET_RECALL, list_count, tune
from winnow.index.exact import ExactIndex
from winnow.queries import RetrievalQuery

SIZES = (10_000, 100_000, 1_000_000)
TUNING_QUERIES, TIMED_QUERIES = 200, 200
TIMED_BATCH = 20
BY_HAND = Path(__file__).with_name("growth_by_hand.json")


def measure(preset: Preset, item_count: int, backing_file: Path | None = None) -> dict[str, Any]:
    """Return CPU milliseconds per query on one thread for both kinds of search over a catalogue of this size."""
    sized = at_size(preset, item_count)
    vectors_IH, user_BH = make_candidates(sized, TUNING_QUERIES + TIMED_QUERIES, backing_file=backing_file)
    started = time.monotonic()
    index = ApproximateIndex.build(vectors_IH, list_count(item_count))
    build_seconds = time.monotonic() - started
    recall = tune(index, vectors_IH, user_BH[:TUNING_QUERIES], TARGET_RECALL)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    timed_BH = user_BH[TUNING_QUERIES:]
    result = {
        "item_count": item_count,
        "list_count": index.list_count,
        "probe_count": index.probe_count,
        "recall_at_200": round(recall, 4),
        "build_seconds": round(build_seconds, 1),
        "approximate_milliseconds": _milliseconds(index, timed_BH),
        "exact_milliseconds": _milliseconds(ExactIndex(vectors_IH), timed_BH[:TIMED_BATCH]),
    }
    torch.set_num_threads(threads)
    return result


def _milliseconds(index: ApproximateIndex | ExactIndex, user_BH: torch.Tensor) -> float:
    """CPU time per query, in batches as a busy stage forms them."""
    query = RetrievalQuery.without_histories(np.full(TIMED_BATCH, 200, dtype=np.int32))
    index.search(user_BH[:TIMED_BATCH], query)
    started = time.process_time()
    for start in range(0, len(user_BH), TIMED_BATCH):
        index.search(user_BH[start : start + TIMED_BATCH], query)
    return round((time.process_time() - started) / len(user_BH) * 1e3, 4)


def points_by_hand() -> list[dict[str, Any]]:
    """Return the results of the sizes that were measured one by one."""
    return list(json.loads(BY_HAND.read_text())) if BY_HAND.exists() else []


if __name__ == "__main__":
    file = Path("runs/benchmarks/growth_vectors.float32")
    file.parent.mkdir(parents=True, exist_ok=True)
    point = measure(PAPER, int(sys.argv[1]), file)
    file.unlink()
    kept = [other for other in points_by_hand() if other["item_count"] != point["item_count"]]
    BY_HAND.write_text(json.dumps([*kept, point], indent=1) + "\n")
    print(point)
