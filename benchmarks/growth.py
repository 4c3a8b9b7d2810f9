"""The cost of a search as the catalogue grows: a full scan, and inverted lists tuned to a target recall.

`python -m benchmarks.growth 10000000` measures one more size. Its vectors are a mapped file below runs/: 10 GB.
Recall is that of the timed queries, on which the index was not tuned.
"""

import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.presets import PAPER, Preset, at_size
from benchmarks.synthetic import make_candidates
from winnow.index.approximate import ApproximateIndex
from winnow.index.choose import RECALL_DEPTH, TARGET_RECALL, list_count, narrowest_width, recall_of_each, tune
from winnow.index.exact import ExactIndex
from winnow.queries import RetrievalQuery

SIZES = (10_000, 100_000, 1_000_000)
# As many to tune on as a release has.
TUNING_QUERIES, TIMED_QUERIES = 500, 200
TIMED_BATCH = 20
BY_HAND = Path(__file__).with_name("growth_by_hand.json")


def measure(preset: Preset, item_count: int, backing_file: Path | None = None) -> dict[str, Any]:
    """Return CPU milliseconds per query on one thread for both kinds of search over a catalogue of this size."""
    sized = at_size(preset, item_count)
    return measure_vectors(*make_candidates(sized, TUNING_QUERIES + TIMED_QUERIES, backing_file=backing_file))


def measure_vectors(vectors_IH: torch.Tensor, user_BH: torch.Tensor) -> dict[str, Any]:
    """As `measure`, of given vectors: [I, H], and [TUNING_QUERIES + TIMED_QUERIES, H]."""
    item_count, tuning_BH, timed_BH = len(vectors_IH), user_BH[:TUNING_QUERIES], user_BH[TUNING_QUERIES:]
    started, started_cpu = time.monotonic(), time.process_time()
    width = narrowest_width(vectors_IH, tuning_BH, TARGET_RECALL)
    index = ApproximateIndex.build(vectors_IH, list_count(item_count), width)
    build_seconds, build_cpu_seconds = time.monotonic() - started, time.process_time() - started_cpu
    tune(index, vectors_IH, tuning_BH, TARGET_RECALL)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    query = RetrievalQuery.without_histories(np.full(len(timed_BH), RECALL_DEPTH, dtype=np.int32))
    true = ExactIndex(vectors_IH).search(timed_BH, query).rows
    with tempfile.TemporaryDirectory() as directory:
        index.save(Path(directory) / "index")
        file_bytes = (Path(directory) / "index").stat().st_size
    result = {
        "item_count": item_count,
        "list_count": index.list_count,
        "probe_count": index.probe_count,
        "rows_scored_for_each": index.rows_scored_for_each,
        "dimensions": width,
        "index_bytes_per_item": round(file_bytes / item_count, 1),
        "recall_at_200": round(float(recall_of_each(index.search(timed_BH, query).rows, true).mean()), 4),
        "build_seconds": round(build_seconds, 1),
        "build_cpu_seconds": round(build_cpu_seconds, 1),
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
