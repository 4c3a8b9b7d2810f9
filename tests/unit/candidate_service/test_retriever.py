"""Candidate generation of one release: batches of calls."""

import asyncio
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from candidate_service.retriever import Retriever
from winnow.catalogue.filters.error import FilterError
from winnow.history import WatchHistories
from winnow.queries import Restriction, RetrievalQuery
from winnow.release.reader import open_current_release


def test_every_call_of_a_batch_gets_the_candidates_that_it_gets_alone(releases: Path) -> None:
    release = open_current_release(releases)
    retriever = Retriever.from_release(release, torch.device("cpu"))
    calls = [
        RetrievalQuery(histories=histories, counts=np.array(counts, dtype=np.int32), exclusions=histories)
        for histories, counts in [
            (WatchHistories.from_lists([[1, 2]]), [20]),
            (WatchHistories.from_lists([[3], [4, 5]]), [300, 1]),
        ]
    ]
    for query, candidates in zip(calls, retriever.compute(calls), strict=True):
        alone = retriever.retrieve(query)
        assert candidates.rows.rows.tolist() == alone.rows.rows.tolist()
        assert candidates.rows.offsets.tolist() == alone.rows.offsets.tolist()
        np.testing.assert_allclose(candidates.scores, alone.scores, rtol=1e-5)


def test_filters_of_a_batch_are_searched_as_alone(releases: Path) -> None:
    release = open_current_release(releases)
    retriever = Retriever.from_release(release, torch.device("cpu"))
    matching = [row for row in range(300) if row % 30 >= 10]  # rows 0 and 30 are of 1990, and so on
    histories = WatchHistories.from_lists([[1, 2], [3], [4, 5]])
    restriction = Restriction(filter="year >= 2000")
    query = RetrievalQuery(
        histories=histories,
        counts=np.full(3, 300, dtype=np.int32),
        exclusions=histories,
        restrictions={0: restriction, 2: Restriction(filter="year >= 2000", allowed=np.array([19, 20, 5], np.int32))},
    )
    asyncio.run(retriever.prepare(query))
    first, second, third = retriever.retrieve(query).split([1, 1, 1])
    assert sorted(first.rows.rows.tolist()) == matching
    assert len(second.rows.rows) == 299
    assert sorted(third.rows.rows.tolist()) == [19, 20]


def test_a_filter_that_does_not_fit_the_release_is_named(releases: Path) -> None:
    release = open_current_release(releases)
    query = RetrievalQuery.without_histories(np.array([1], dtype=np.int32))
    query = replace(query, restrictions={0: Restriction(filter="yeer = 1")})
    with pytest.raises(FilterError, match="there is no attribute 'yeer'"):
        asyncio.run(Retriever.from_release(release, torch.device("cpu")).prepare(query))
