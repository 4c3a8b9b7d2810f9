"""Whether candidate lists are better where nearest neighbours are added to the candidate network's logits.

    python -m benchmarks.neighbours_in_retrieval --release demo --interactions data/movielens-1m/interactions.parquet

A release has neighbours in its ranking network only, which orders the candidates and finds no further ones. Here the
weights of EASE are summed over the history and added to the logits before the list is cut: to those of all items, or of
the first 500 of the network; all weights, or as many of the largest of each item as a release keeps. How much is added
is chosen on validation, by HR@200. Shape legend: B histories, I items, K rows of an answer.
"""

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from winnow.evaluation.baselines import NEIGHBOURS_PER_ITEM, ease, watched_matrix
from winnow.evaluation.best_unseen import best_of_dense, most_watched_first
from winnow.evaluation.compare import PARTS, SEED, EvaluationLog
from winnow.evaluation.figures_file import FiguresFile
from winnow.evaluation.rank_figures import hits, means_of_users
from winnow.evaluation.recommender_figures import Answers, ask, interval, measure
from winnow.history import RaggedRows
from winnow.logs.log_format import LogFormat
from winnow.networks.candidate import DeepCandidateGenerationModel
from winnow.release.manifest import CURRENT_FILE
from winnow.release.models.loader import load_candidate_network
from winnow.release.reader import current_release_id, open_release

# What a neighbour's weight is multiplied by.
FACTORS = (2.0, 4.0, 8.0)
SHORTLIST = 500
DEPTH = 200
DECIMALS = 4


Scores = Callable[[RaggedRows], NDArray[np.float32]]
"""Returns the score of each item after each history, float32 [B, I]."""


class Way(NamedTuple):
    """What is added to the logits, the factors that are tried, and how many of the network's items are kept to."""

    name: str
    added: Scores
    factors: Sequence[float]
    shortlist: int | None


class WithNeighbours:
    """A candidate network whose logits are corrected by sums over the history: a Recommender."""

    def __init__(
        self,
        network: DeepCandidateGenerationModel,
        added: Scores,
        factor: float,
        preferred_I: NDArray[np.int64],
        shortlist: int | None = None,
    ) -> None:
        """`added` is multiplied by the factor. `shortlist` keeps to the first items of the network."""
        self._network, self._added, self._factor = network, added, factor
        self._preferred_I, self._shortlist = preferred_I, shortlist

    @torch.inference_mode()
    def top(self, histories: RaggedRows, count: int) -> NDArray[np.int64]:
        """See Recommender.top."""
        network = self._network
        scores_BI = network.logits(network.user_vectors(network.pack(histories))).numpy().copy()
        if self._shortlist is not None:
            first_BK = best_of_dense(scores_BI.copy(), histories, self._shortlist, self._preferred_I)
            beyond_BI = np.ones(scores_BI.shape, dtype=np.bool_)
            np.put_along_axis(beyond_BI, first_BK, values=False, axis=1)
            scores_BI[beyond_BI] = -np.inf
        scores_BI += self._factor * self._added(histories)
        return best_of_dense(scores_BI, histories, count, self._preferred_I)


def main() -> None:
    """Measure and print, and write the figures where a file is given."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--release", type=Path, required=True, help="a release, or a directory of releases")
    parser.add_argument("--interactions", type=Path, required=True, help="the log that it was trained on")
    parser.add_argument("--ties", choices=("file", "hash"), default="file", help="see winnow train --ties")
    parser.add_argument("--figures", type=Path, help="JSON file to add the figures to")
    parser.add_argument("--section", default="neighbours_in_retrieval", help="their key in that file")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    path: Path = arguments.release
    release = open_release(path / current_release_id(path) if (path / CURRENT_FILE).is_file() else path)
    log = EvaluationLog.read(release, arguments.interactions, None, LogFormat(ties=arguments.ties))
    found = compare(log, load_candidate_network(release, torch.device("cpu")))
    if arguments.figures is not None:
        FiguresFile(arguments.figures, arguments.section).save({"split": log.split.description, **found})


def hit_rate(answers: Answers) -> float:
    """Return HR@200."""
    return answers.mean(hits(answers.ranks, DEPTH))


def compare(log: EvaluationLog, network: DeepCandidateGenerationModel) -> dict[str, Any]:
    """Return the figures by part and way, and the factor of each way."""
    whole = ease(log.split.training, network.n_items)
    largest_II = whole.largest(NEIGHBOURS_PER_ITEM)
    preferred_I = most_watched_first(log.split.training, network.n_items)

    def of_largest(histories: RaggedRows) -> NDArray[np.float32]:
        scores_BI: NDArray[np.float32] = (watched_matrix(histories, network.n_items) @ largest_II).toarray()
        return scores_BI

    ways = [
        Way("candidate", whole.scores, (0.0,), None),
        Way("with_ease", whole.scores, FACTORS, None),
        Way("with_ease_first_500", whole.scores, FACTORS, SHORTLIST),
        Way(f"with_ease_largest_{NEIGHBOURS_PER_ITEM}", of_largest, FACTORS, None),
    ]

    def ask_way(way: Way, factor: float, part: str) -> Answers:
        recommender = WithNeighbours(network, way.added, factor, preferred_I, way.shortlist)
        return ask(recommender, log.held_out(part), network.n_items)

    found: dict[str, Any] = {part: {} for part in PARTS} | {"factors": {}}
    for way in ways:
        rates = [hit_rate(ask_way(way, factor, PARTS[0])) for factor in way.factors]
        best = way.factors[int(np.argmax(rates))]
        found["factors"][way.name] = best
        for part in PARTS:
            asked = ask_way(way, best, part)
            hits_U = means_of_users(hits(asked.ranks, DEPTH), asked.users)
            low, high = interval(hits_U, seed=SEED)
            figures = measure(asked, log.watch_counts, seed=SEED) | {"hr_at_200_low": low, "hr_at_200_high": high}
            found[part][way.name] = {key: round(value, DECIMALS) for key, value in figures.items()}
            shown = "  ".join(f"{key} {figures[key]:.4f}" for key in ("hr_at_10", "hr_at_200", "ndcg_at_10"))
            print(f"{part}, {way.name}, factor {best:g}: {shown}", flush=True)
    return found


if __name__ == "__main__":
    main()
