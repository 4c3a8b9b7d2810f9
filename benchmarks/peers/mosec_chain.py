"""The same two networks behind mosec, whose HTTP front is compiled: two workers in a pipeline, both with its batching.

mosec is not among the dependencies: `pip install mosec` first. The messages are Winnow's, as the bodies of POST calls.
"""

import os
from pathlib import Path

import torch
from mosec import Server, Worker

from winnow.catalogue.vocabulary import Vocabulary
from winnow.release.models.loader import load_candidate_network, load_ranking_network
from winnow.release.reader import Release, open_current_release
from winnow.v1 import recommendation_pb2

RELEASES_VARIABLE = "WINNOW_BENCHMARK_RELEASES"
CANDIDATE_COUNT = 200
MAX_BATCH_SIZE = 64

Asked = tuple[list[int], int]
"""The rows of a history, and how many items are wanted."""
Retrieved = tuple[list[int], int, list[int]]
"""The same, and the rows of the candidates."""
Ranked = tuple[list[str], list[float]]
"""Item ids and scores, the best first."""


class Candidates(Worker):  # type: ignore[misc]  # mosec is not installed where types are checked
    """The candidate network: one product of all user vectors of a batch with the output table."""

    def __init__(self) -> None:
        release, self._vocabulary = _release()
        self._network = load_candidate_network(release, torch.device("cpu"))

    def deserialize(self, data: bytes) -> Asked:
        """Read a request."""
        request = recommendation_pb2.RecommendItemsRequest.FromString(data)
        rows, _ = self._vocabulary.rows([watch.item_id for watch in request.history])
        return rows.tolist(), request.item_count

    @torch.inference_mode()
    def forward(self, data: list[Asked]) -> list[Retrieved]:
        """Return the best unwatched rows for each history."""
        histories = [torch.tensor(rows) for rows, _ in data]
        scores = self._network(histories)
        for position, history in enumerate(histories):
            scores[position, history] = -1
        best = scores.topk(CANDIDATE_COUNT).indices.tolist()
        return [(rows, count, found) for (rows, count), found in zip(data, best, strict=True)]


class Ranks(Worker):  # type: ignore[misc]
    """The ranking network: all candidates of a history at once."""

    def __init__(self) -> None:
        release, self._vocabulary = _release()
        self._network = load_ranking_network(release, torch.device("cpu"))

    @torch.inference_mode()
    def forward(self, data: list[Retrieved]) -> list[Ranked]:
        """Score the candidates and keep the best."""
        answers = []
        for history, count, candidates in data:
            scores = self._network(torch.tensor(history), torch.tensor(candidates))[:, 0]
            best = scores.topk(count)
            rows = [candidates[position] for position in best.indices.tolist()]
            answers.append((self._vocabulary.item_ids(rows), best.values.tolist()))
        return answers

    def serialize(self, data: Ranked) -> bytes:
        """Write an answer."""
        response = recommendation_pb2.RecommendItemsResponse()
        for item_id, score in zip(*data, strict=True):
            response.items.add(item_id=item_id, score=score)
        return response.SerializeToString()


def _release() -> tuple[Release, Vocabulary]:
    torch.set_num_threads(1)
    releases = Path(os.environ[RELEASES_VARIABLE])
    release = open_current_release(releases)
    return release, release.vocabulary()


def main() -> None:
    """Serve at the port that mosec's own option `--port` names."""
    server = Server()
    server.append_worker(Candidates, num=1, max_batch_size=MAX_BATCH_SIZE, max_wait_time=1)
    server.append_worker(Ranks, num=1, max_batch_size=MAX_BATCH_SIZE, max_wait_time=1)
    server.run()


if __name__ == "__main__":
    main()
