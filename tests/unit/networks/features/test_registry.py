"""Every feature is what a loop over requests, and over the candidates of each, makes of them."""

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from tests.unit.networks.features.requests import CANDIDATE, FACTS, ITEM_TABLES, network_of, packed, some_requests
from winnow.contexts import RequestContexts
from winnow.history import UNKNOWN_TIME, RaggedRows
from winnow.networks.features.batch import FeatureBatch
from winnow.networks.features.candidate_network import SIMILAR_WATCHES
from winnow.networks.features.registry import FEATURES


class Asked(NamedTuple):
    """One candidate of one request."""

    row: int
    watched: list[int]
    watched_at: list[int]
    shown: list[int]
    now: int


def seconds(earlier: int, later: int) -> float:
    return math.nan if UNKNOWN_TIME in (earlier, later) else max(later - earlier, 0.0)


def count(groups: NDArray[np.int32], rows: list[int], row: int) -> float:
    return float(sum(groups[other] == groups[row] != -1 for other in rows))


def since(groups: NDArray[np.int32], asked: Asked) -> float:
    times = [time for other, time in zip(asked.watched, asked.watched_at, strict=True)
             if groups[other] == groups[asked.row] != -1]  # fmt: skip
    return seconds(times[-1], asked.now) if times else math.nan


@torch.no_grad()
def similarity(asked: Asked) -> float:
    if not asked.watched:
        return math.nan
    table = CANDIDATE.embedding.weight
    latest = table[asked.watched[-SIMILAR_WATCHES:]].mean(dim=0)
    return float(torch.cosine_similarity(latest, table[asked.row], dim=0))


@torch.no_grad()
def candidate_score(asked: Asked) -> float:
    if not asked.watched:
        return math.nan
    user = CANDIDATE.user_vectors(CANDIDATE.pack(RaggedRows.from_lists([asked.watched])))
    return float(user[0] @ CANDIDATE.item_vectors_IH[asked.row])


PLAINLY: dict[str, Callable[[Asked], float]] = {
    "seconds_since_author_watch": lambda asked: since(FACTS.authors, asked),
    "author_watches": lambda asked: count(FACTS.authors, asked.watched, asked.row),
    "seconds_since_category_watch": lambda asked: since(FACTS.categories, asked),
    "category_watches": lambda asked: count(FACTS.categories, asked.watched, asked.row),
    "item_unclicked": lambda asked: float(asked.shown.count(asked.row)),
    "author_unclicked": lambda asked: count(FACTS.authors, asked.shown, asked.row),
    "category_unclicked": lambda asked: count(FACTS.categories, asked.shown, asked.row),
    "item_age_seconds": lambda asked: seconds(int(FACTS.uploaded[asked.row]), asked.now),
    "popularity": lambda asked: float(FACTS.popularity[asked.row]),
    "duration_seconds": lambda asked: math.nan if FACTS.durations[asked.row] < 0 else float(FACTS.durations[asked.row]),
    "similarity": similarity,
    "candidate_score": candidate_score,
}


@pytest.mark.parametrize("name", FEATURES)
@torch.no_grad()
def test_a_feature_is_what_a_loop_makes_of_it(name: str) -> None:
    histories, contexts, candidates = some_requests(40, seed=5)
    expected = []
    for request in range(len(histories)):
        bounds = slice(histories.offsets[request], histories.offsets[request + 1])
        watched, times = histories.rows[bounds][-12:].tolist(), histories.timestamps[bounds][-12:].tolist()
        shown, now = contexts.unclicked[request].tolist(), int(contexts.times[request])
        expected += [PLAINLY[name](Asked(row, watched, times, shown, now)) for row in candidates[request].tolist()]
    batch = batch_of(histories, contexts, candidates)
    np.testing.assert_allclose(FEATURES[name].compute(batch).numpy(), expected, rtol=1e-4, atol=1e-4)
    assert np.nan_to_num(expected).any()
    may_be_unknown = {name for name in FEATURES if "seconds" in name} | {"similarity", "candidate_score"}
    assert bool(np.isnan(expected).any()) == (name in may_be_unknown)


@pytest.mark.parametrize("name", FEATURES)
@torch.no_grad()
def test_only_features_that_say_so_read_the_context(name: str) -> None:
    histories, contexts, candidates = some_requests(40, seed=5)
    known = FEATURES[name].compute(batch_of(histories, contexts, candidates))
    unknown = FEATURES[name].compute(batch_of(histories, RequestContexts.unknown(40), candidates))
    without = FEATURES[name].compute(batch_of(histories, None, candidates))
    torch.testing.assert_close(without, unknown, equal_nan=True)
    assert torch.equal(known.nan_to_num(-1), without.nan_to_num(-1)) != FEATURES[name].reads_context


def batch_of(*requests: object) -> FeatureBatch:
    histories, candidates = packed(network_of(), *requests)  # type: ignore[arg-type]
    return FeatureBatch(histories=histories, candidates=candidates, items=ITEM_TABLES, network=CANDIDATE)
