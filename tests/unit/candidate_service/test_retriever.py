"""Candidate generation of one release: batches of calls."""

from pathlib import Path

import numpy as np
import torch

from candidate_service.retriever import Retriever
from winnow.history import WatchHistories
from winnow.queries import RetrievalQuery
from winnow.release.reader import current_release_id, open_release


def test_every_call_of_a_batch_gets_the_candidates_that_it_gets_alone(releases: Path) -> None:
    release = open_release(releases / current_release_id(releases))
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
