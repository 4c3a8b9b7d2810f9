"""Whatever a source has, only what may be in the answer is proposed."""

import asyncio
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.filters import PermittedRows
from gateway.requests import CandidateRequest
from gateway.served_catalogue import ServedCatalogue
from gateway.sources import proposed as module
from gateway.sources.caller import CallerSource
from gateway.sources.proposed import Inspection, Proposed, numbered
from gateway.sources.trending import TrendingSource
from tests.unit.gateway.stages import candidate_request, rows
from winnow.serving.metrics import Metrics


def request(
    *watched: int, allowed: list[int] | None = None, own_candidates: list[int] | None = None
) -> CandidateRequest:
    async def make() -> CandidateRequest:
        permitted = None if allowed is None else PermittedRows(None, np.unique(rows(*allowed)))
        return candidate_request(*watched, permitted=permitted, own_candidates=own_candidates)

    return asyncio.run(make())


def outcomes(metrics: Metrics, source: str) -> dict[str, float]:
    names = ("used", "unknown", "excluded", "filtered")
    found = {
        name: metrics.registry.get_sample_value("winnow_source_candidates_total", {"source": source, "outcome": name})
        for name in names
    }
    return {name: value for name, value in found.items() if value}


def test_what_is_excluded_or_not_permitted_is_dropped_and_counted(catalogue: ServedCatalogue) -> None:
    metrics = Metrics()
    inspection = Inspection("editors", catalogue, metrics)
    found = inspection.admit(request(3, 5, allowed=[1, 2, 3, 4]), rows(5, 4, 3, 2, 9), numbered(5))
    assert (found.source, found.rows.tolist(), found.places.tolist()) == ("editors", [4, 2], [2, 4])
    assert outcomes(metrics, "editors") == {"used": 2, "excluded": 1, "filtered": 2}


def test_nothing_is_dropped_where_nothing_is_restricted(catalogue: ServedCatalogue) -> None:
    found = Inspection("editors", catalogue, Metrics()).admit(request(), rows(5, 4), numbered(2))
    assert (found.rows.tolist(), found.places.tolist()) == ([5, 4], [1, 2])


@given(
    listed=st.lists(st.integers(0, 60), unique=True),
    excluded=st.lists(st.integers(0, 60), max_size=20),
    allowed=st.none() | st.lists(st.integers(0, 60)),
    count=st.integers(1, 20),
)
def test_the_first_rows_that_may_be_in_the_answer(
    catalogue: ServedCatalogue, listed: list[int], excluded: list[int], allowed: list[int] | None, count: int
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "BLOCK_ROWS", 7)
        found = Inspection("trending", catalogue, Metrics()).first(
            request(*excluded, allowed=allowed), rows(*listed), count
        )
    expected = [row for row in listed if row not in excluded and (allowed is None or row in allowed)][:count]
    assert found.rows.tolist() == expected
    assert found.places.tolist() == list(range(1, len(expected) + 1))
    assert found.rows.dtype == np.int32


def test_trending_items_up_to_the_quota(catalogue: ServedCatalogue) -> None:
    source = TrendingSource(replace(catalogue, trending_rows=rows(9, 8, 7, 6)), 2, Metrics())
    first, second = asyncio.run(_propose(source, [request(9), request(allowed=[6, 1])]))
    assert first is not None
    assert second is not None
    assert (first.rows.tolist(), second.rows.tolist()) == ([8, 7], [6])


def test_a_caller_takes_part_where_it_has_candidates_even_if_none_is_known(catalogue: ServedCatalogue) -> None:
    source = CallerSource(catalogue, Metrics())
    none, some, unknown = asyncio.run(
        _propose(source, [request(), request(2, own_candidates=[4, 2, 6]), request(own_candidates=[])])
    )
    assert none is None
    assert some is not None
    assert (some.source, some.rows.tolist(), some.places.tolist()) == ("caller", [4, 6], [1, 3])
    assert unknown is not None
    assert unknown.rows.tolist() == []


async def _propose(source: TrendingSource | CallerSource, requests: list[CandidateRequest]) -> list[Proposed | None]:
    return list(await source.propose(requests, deadline=0))
