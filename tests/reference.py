"""The plain computation that every served answer is compared with: the notebook's `forward`, one user at a time."""

from collections.abc import Callable, Sequence
from pathlib import Path

import torch

from winnow.history import RaggedRows, WatchHistories
from winnow.networks.packed import pack
from winnow.release.models.loader import load_candidate_network, load_ranking_network
from winnow.release.reader import current_release_id, open_release


class DirectRecommender:
    """Answers from a release without any service: softmax over all items, one user, no batching, no index."""

    def __init__(self, releases: Path, release_id: str | None = None) -> None:
        release = open_release(releases / (release_id or current_release_id(releases)))
        self.release_id = release.release_id
        self.vocabulary = release.vocabulary()
        self.retired = release.retired().tolist()
        self.candidate_network = load_candidate_network(release, torch.device("cpu"))
        self.ranking_network = load_ranking_network(release, torch.device("cpu"))

    def recommend(
        self,
        history: list[str],
        count: int,
        candidate_count: int = 200,
        excluded: Sequence[str] = (),
        matches: Callable[[int], bool] = lambda _row: True,
        further: Sequence[str] = (),
    ) -> list[tuple[str, float]]:
        """Return the `count` best items that match and are neither watched nor excluded, and their probabilities.

        `matches` says of a row whether it may be in the answer. `further` are candidates of other sources: ids that are
        unknown or may not be in the answer, or are among the other candidates, make no difference.
        """
        watched, _ = self.vocabulary.rows(history)
        rows = torch.from_numpy(watched).long()
        probabilities = self.candidate_network([_last(rows, self.candidate_network.config.history_length)])[0]
        probabilities[rows] = -1
        probabilities[self.vocabulary.rows(excluded)[0].tolist()] = -1
        probabilities[self.retired] = -1
        probabilities[[row for row in range(len(self.vocabulary)) if not matches(row)]] = -1
        candidates = probabilities.argsort(descending=True)[: min(candidate_count, int((probabilities >= 0).sum()))]
        added = [row for row in self.vocabulary.rows(further)[0].tolist() if probabilities[row] >= 0]
        candidates = torch.tensor(list(dict.fromkeys([*candidates.tolist(), *added])), dtype=torch.long)
        scores = self.ranking_network(_last(rows, self.ranking_network.config.history_length), candidates)[:, 0]
        best = scores.argsort(descending=True, stable=True)[:count]
        item_ids = self.vocabulary.item_ids(candidates[best].tolist())
        return list(zip(item_ids, scores[best].tolist(), strict=True))

    @torch.inference_mode()
    def logits(self, history: WatchHistories) -> torch.Tensor:
        """Return the candidate network's logit of every item for one history."""
        packed = self.candidate_network.pack(history)
        return self.candidate_network.logits(self.candidate_network.user_vectors(packed))[0]

    @torch.inference_mode()
    def scores(self, history: WatchHistories, rows: Sequence[int]) -> torch.Tensor:
        """Return the ranking network's score of some rows for one history."""
        candidates = pack(RaggedRows.from_lists([rows]), torch.device("cpu"))
        return self.ranking_network.scores(self.ranking_network.logits(self.ranking_network.pack(history), candidates))


def _last(rows: torch.Tensor, limit: int | None) -> torch.Tensor:
    return rows if limit is None else rows[-limit:]
