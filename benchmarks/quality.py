"""The cost of approximation: served answers against the exact float32 pipeline, on histories not used for tuning."""

from pathlib import Path

import numpy as np
import torch

from benchmarks.presets import Preset, item_id
from benchmarks.releases import load_histories
from candidate_service.retriever import Retriever
from ranking_service.ranker import Ranker
from winnow.client import WinnowClient
from winnow.index.choose import recall_of_each
from winnow.queries import RankingQuery, RetrievalQuery
from winnow.release.reader import open_current_release

QUERIES = 300


def recall_and_reference(preset: Preset, directory: Path) -> tuple[float, list[list[str]]]:
    """Return the recall of the release's index, with watched items excluded, and the exact pipeline's best items."""
    release = open_current_release(directory)
    cpu = torch.device("cpu")
    histories = load_histories(directory).slice(0, QUERIES)
    query = RetrievalQuery(
        histories=histories, counts=np.full(QUERIES, preset.candidate_count, dtype=np.int32), exclusions=histories
    )
    exact = Retriever.from_release(release, cpu, exact_search=True).retrieve(query).rows
    found = Retriever.from_release(release, cpu).retrieve(query).rows
    scores = Ranker.from_release(release, cpu).rank(RankingQuery(histories=histories, candidates=exact))
    best = []
    for number in range(QUERIES):
        of_query = scores[exact.offsets[number] : exact.offsets[number + 1]]
        order = np.argsort(-of_query, kind="stable")[: preset.answer_length]
        best.append([item_id(row) for row in exact[number][order].tolist()])
    return float(recall_of_each(found, exact).mean()), best


def served_overlap(preset: Preset, directory: Path, target: str, reference: list[list[str]]) -> float:
    """Return the share of the exact pipeline's best items that the served answers contain."""
    histories = load_histories(directory)
    shares = []
    with WinnowClient(target, timeout_seconds=10) as client:
        for query, expected in enumerate(reference):
            history = [item_id(row) for row in histories[query].tolist()]
            answer = client.recommend(history, count=preset.answer_length, require_ranked=True)
            shares.append(len({item.item_id for item in answer.items} & set(expected)) / len(expected))
    return float(np.mean(shares))
