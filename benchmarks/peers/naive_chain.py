"""(c) A naive chain with the plain networks: one request at a time in an executor, softmax over all items."""

import asyncio
import sys
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import torch

from benchmarks.peers.chain import ChainGateway
from benchmarks.peers.server import Handler, run
from winnow.release.models.loader import load_candidate_network, load_ranking_network
from winnow.release.reader import open_current_release
from winnow.v1 import recommendation_pb2


class NaiveCandidates:
    """Computes the probabilities of all items and returns the largest of unwatched items."""

    def __init__(self, releases: Path) -> None:
        release = open_current_release(releases)
        self._vocabulary = release.vocabulary()
        self._network = load_candidate_network(release, torch.device("cpu"))
        self._executor = ThreadPoolExecutor(max_workers=1)

    async def retrieve(
        self, request: recommendation_pb2.RetrieveItemsRequest, _context: object
    ) -> recommendation_pb2.RetrieveItemsResponse:
        """Compute in the executor."""
        return await asyncio.get_running_loop().run_in_executor(self._executor, self._compute, request)

    @torch.inference_mode()
    def _compute(self, request: recommendation_pb2.RetrieveItemsRequest) -> recommendation_pb2.RetrieveItemsResponse:
        rows, _ = self._vocabulary.rows([watch.item_id for watch in request.history])
        history = torch.from_numpy(rows).long()
        probabilities = self._network([history])[0]
        probabilities[history] = -1
        best = probabilities.topk(request.item_count)
        item_ids = self._vocabulary.item_ids(best.indices.tolist())
        return recommendation_pb2.RetrieveItemsResponse(items=_scored(item_ids, best.values))


class NaiveRanking:
    """Runs the plain ranking network."""

    def __init__(self, releases: Path) -> None:
        release = open_current_release(releases)
        self._vocabulary = release.vocabulary()
        self._network = load_ranking_network(release, torch.device("cpu"))
        self._executor = ThreadPoolExecutor(max_workers=1)

    async def rank(
        self, request: recommendation_pb2.RankItemsRequest, _context: object
    ) -> recommendation_pb2.RankItemsResponse:
        """Compute in the executor."""
        return await asyncio.get_running_loop().run_in_executor(self._executor, self._compute, request)

    @torch.inference_mode()
    def _compute(self, request: recommendation_pb2.RankItemsRequest) -> recommendation_pb2.RankItemsResponse:
        history, _ = self._vocabulary.rows([watch.item_id for watch in request.history])
        items, _ = self._vocabulary.rows(request.item_ids)
        scores = self._network(torch.from_numpy(history).long(), torch.from_numpy(items).long())[:, 0]
        return recommendation_pb2.RankItemsResponse(items=_scored(list(request.item_ids), scores))


def _scored(item_ids: list[str], scores: torch.Tensor) -> list[recommendation_pb2.ScoredItem]:
    return [
        recommendation_pb2.ScoredItem(item_id=item_id, score=score)
        for item_id, score in zip(item_ids, scores.tolist(), strict=True)
    ]


def main(role: str, port: str, *others: str) -> None:
    """Run one of the three processes; `others` is the directory of releases or the two targets of the gateway."""

    def handlers() -> Mapping[str, Handler]:
        if role == "gateway":
            return {"RecommendItems": ChainGateway(*others).recommend}
        if role == "candidates":
            return {"RetrieveItems": NaiveCandidates(Path(others[0])).retrieve}
        return {"RankItems": NaiveRanking(Path(others[0])).rank}

    run(int(port), handlers)


if __name__ == "__main__":
    main(*sys.argv[1:])
