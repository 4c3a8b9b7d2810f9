"""The computations of the stages on one thread, compared with the rate of this machine's matrix product.

Only the operations that a network needs in the form that runs are counted. For the folded ranking network these are the
layers above the first, one addition per number of the first layer's output, and the user's half of the first layer.
Gathering, ReLU and copying do not count.
"""

import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch

from benchmarks.presets import Preset
from benchmarks.releases import load_histories
from candidate_service.retriever import Retriever
from ranking_service.ranker import Ranker
from winnow.networks.packed import pack
from winnow.networks.tower import tower_widths
from winnow.queries import RankingQuery, RetrievalQuery
from winnow.release.models.loader import load_candidate_network
from winnow.release.reader import open_current_release

# As many as wait in front of a stage at saturation.
BATCH_QUERIES = 32
TABLE_MEBIBYTES = 2048
# Large enough for a matrix product to reach its best rate, small enough to fit into the L3 cache.
GEMM_SIZE = 1024


def measure(preset: Preset, directory: Path, repetitions: int) -> dict[str, Any]:
    """Return milliseconds per request, GFLOP/s and the share of the matrix product's rate for each computation."""
    torch.set_num_threads(1)
    torch.set_grad_enabled(False)
    release = open_current_release(directory)
    cpu = torch.device("cpu")
    histories = load_histories(directory).slice(0, BATCH_QUERIES)
    query = RetrievalQuery(
        histories=histories,
        counts=np.full(BATCH_QUERIES, preset.candidate_count, dtype=np.int32),
        exclusions=histories,
    )
    network = load_candidate_network(release, cpu)
    packed = pack(histories, cpu)
    exact = Retriever.from_release(release, cpu, exact_search=True)
    served = Retriever.from_release(release, cpu)
    ranking = RankingQuery(histories=histories, candidates=exact.retrieve(query).rows)
    # Enough for every preset, in float16.
    table_bytes = TABLE_MEBIBYTES * 2**20
    rankers = {
        "ranking, plain": Ranker.from_release(release, cpu),
        "ranking, folded": Ranker.from_release(release, cpu, table_budget_bytes=table_bytes),
        "ranking, plain, bfloat16": Ranker.from_release(release, cpu, arithmetic="bfloat16"),
        "ranking, folded, bfloat16": Ranker.from_release(
            release, cpu, table_budget_bytes=table_bytes, arithmetic="bfloat16"
        ),
    }
    tower, folded = _operations(preset)
    computations: dict[str, tuple[Callable[[], object], float]] = {
        "candidate tower": (lambda: network.user_vectors(packed), tower),
        "exact search": (lambda: exact.retrieve(query), tower + 2 * preset.item_count * preset.hidden_dim),
        "served search": (lambda: served.retrieve(query), 0),
        **{
            name: (lambda ranker=ranker: ranker.rank(ranking), folded if "folded" in name else _plain(preset))  # type: ignore[misc]
            for name, ranker in rankers.items()
        },
    }
    return _interleaved(computations, repetitions)


def _interleaved(computations: dict[str, tuple[Callable[[], object], float]], repetitions: int) -> dict[str, Any]:
    """Measure all computations in turn for several rounds, each one right after a matrix product."""
    gemm_rates, times, shares = [], {name: [] for name in computations}, {name: [] for name in computations}  # type: ignore[var-annotated]
    for compute, _ in computations.values():
        compute()
    for _ in range(repetitions):
        for name, (compute, operations) in computations.items():
            gemm = _gemm_rate()
            started = time.perf_counter()
            compute()
            seconds = (time.perf_counter() - started) / BATCH_QUERIES
            gemm_rates.append(gemm)
            times[name].append(seconds)
            shares[name].append(operations / seconds / gemm)
    return {
        "gemm_gflops": round(median(gemm_rates) / 1e9, 1),
        "batch_queries": BATCH_QUERIES,
        "computations": {
            name: {
                "milliseconds_per_request": round(median(times[name]) * 1e3, 4),
                "gflops": round(operations / median(times[name]) / 1e9, 1) if operations else None,
                "share_of_gemm": round(median(shares[name]), 3) if operations else None,
            }
            for name, (_, operations) in computations.items()
        },
    }


def _gemm_rate() -> float:
    left, right = torch.rand(GEMM_SIZE, GEMM_SIZE), torch.rand(GEMM_SIZE, GEMM_SIZE)
    started = time.perf_counter()
    for _ in range(4):
        torch.mm(left, right)
    return 4 * 2 * GEMM_SIZE**3 / (time.perf_counter() - started)


def _operations(preset: Preset) -> tuple[float, float]:
    """Multiplications and additions per request of the candidate tower and of the folded ranking network."""
    widths = tower_widths(preset.embedding_dim, preset.hidden_dim, preset.n_hidden_layers)
    tower = 2.0 * sum(before * after for before, after in pairwise(widths))
    user_half = 2.0 * widths[0] * widths[1]
    above = 2.0 * sum(before * after for before, after in pairwise([*widths[1:], 1]))
    return tower, user_half + preset.candidate_count * (widths[1] + above)


def _plain(preset: Preset) -> float:
    """The same for the plain ranking network, in which the item's half is a matrix product too."""
    _, folded = _operations(preset)
    widths = tower_widths(preset.embedding_dim, preset.hidden_dim, preset.n_hidden_layers)
    return folded + preset.candidate_count * 2.0 * widths[0] * widths[1]
