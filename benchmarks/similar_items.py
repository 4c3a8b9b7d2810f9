"""Ways to find similar items with a trained candidate network, beside item-kNN, by the next watch after an item.

    python -m benchmarks.similar_items --release releases --interactions data/movielens-1m/interactions.parquet

prints a table of each held-out part. For every held-out watch, each way lists the items most similar to the user's last
watch before it, and nothing else is known of the user. `--figures FILE --section NAME` adds the figures to a JSON file.
Shape legend: I items, B held-out watches, H width of a vector, K items of a list.
"""

import argparse
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table
from torch import Tensor
from torch.nn import functional as F

from winnow.evaluation.baselines import item_knn
from winnow.evaluation.best_unseen import most_watched_first
from winnow.evaluation.compare import PARTS, EvaluationLog
from winnow.evaluation.figures_file import FiguresFile
from winnow.evaluation.rank_figures import means_of_users
from winnow.evaluation.recommender_figures import interval
from winnow.history import RaggedRows
from winnow.logs.split import HeldOut
from winnow.networks.candidate import DeepCandidateGenerationModel
from winnow.release.models.loader import load_candidate_network
from winnow.release.reader import open_release_or_current

DEPTHS = (10, 20)
LIST_LENGTH = DEPTHS[-1]
SEED = 1
ITEM_KNN = "item knn"

Lists = NDArray[np.int64]
"""The most similar items of each item, best first, int64 [I, K]."""


def main() -> None:
    """Measure and print, and write the figures where a file is given."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--release", type=Path, required=True, help="a release, or a directory of releases")
    parser.add_argument("--interactions", type=Path, required=True, help="the log that it was trained on")
    parser.add_argument("--figures", type=Path, help="JSON file to add the figures to")
    parser.add_argument("--section", default="similar_items", help="their key in that file")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    release = open_release_or_current(arguments.release)
    log = EvaluationLog.read(release, arguments.interactions, None)
    lists = similar_lists(load_candidate_network(release, torch.device("cpu")), log.split.training)
    found = {part: measure(lists, log.held_out(part)) for part in PARTS}
    console = Console(highlight=False)
    for part, figures in found.items():
        console.print(table(part, figures))
    if arguments.figures is not None:
        FiguresFile(arguments.figures, arguments.section).save({"split": log.split.description, **found})


@torch.inference_mode()
def similar_lists(network: DeepCandidateGenerationModel, training: RaggedRows) -> dict[str, Lists]:
    """Return the lists of every way. Raises ValueError where the catalogue is too large for item-kNN."""
    item_count = network.n_items
    each_alone = RaggedRows.from_lengths(np.arange(item_count, dtype=np.int32), np.ones(item_count, dtype=np.int64))
    users_IH = network.user_vectors(network.pack(each_alone))
    outputs_IH, embeddings_IE = network.item_vectors_IH, network.embedding.weight
    scores: dict[str, Callable[[], Tensor]] = {
        "history of the item": lambda: users_IH @ outputs_IH.T,
        "history of the item, cosine": lambda: F.normalize(users_IH) @ F.normalize(outputs_IH).T,
        "user vectors, cosine": lambda: _cosines(users_IH),
        "output vectors": lambda: outputs_IH @ outputs_IH.T,
        "output vectors, cosine": lambda: _cosines(outputs_IH),
        "input embeddings, cosine": lambda: _cosines(embeddings_IE),
    }
    popular = most_watched_first(training, item_count)[: LIST_LENGTH + 1]
    return {
        "popularity": np.stack([popular[popular != row][:LIST_LENGTH] for row in range(item_count)]),
        ITEM_KNN: item_knn(training, item_count).top(each_alone, LIST_LENGTH),
        **{name: _best_others(score()) for name, score in scores.items()},
    }


def measure(lists: Mapping[str, Lists], held_out: HeldOut) -> dict[str, dict[str, float]]:
    """Return the figures of each way on watches with a watch before them.

    `hr_at_10` is the share of watches that are among the ten items most similar to the watch before, `overlap_at_20`
    the mean share of an item's first twenty that item-kNN lists too, `coverage_at_20` the share of all items that are
    in any list.
    """
    watched = held_out.histories.lengths > 0
    last_B = held_out.histories.rows[held_out.histories.offsets[1:][watched] - 1]
    targets_B, users_B = held_out.targets[watched], held_out.users[watched]
    found = {}
    for name, lists_IK in lists.items():
        figures: dict[str, float] = {}
        for depth in DEPTHS:
            hits_B = (lists_IK[last_B, :depth] == targets_B[:, None]).any(axis=1)
            hits_U = means_of_users(hits_B, users_B)
            low, high = interval(hits_U, seed=SEED)
            key = f"hr_at_{depth}"
            figures |= {key: float(hits_U.mean()), f"{key}_low": low, f"{key}_high": high}
        shared_I = [len(np.intersect1d(*pair)) / LIST_LENGTH for pair in zip(lists_IK, lists[ITEM_KNN], strict=True)]
        figures["overlap_at_20"] = float(np.mean(shared_I))
        figures["coverage_at_20"] = len(np.unique(lists_IK)) / len(lists_IK)
        found[name.replace(",", "").replace(" ", "_")] = {key: round(value, 4) for key, value in figures.items()}
    return found


def table(part: str, figures: Mapping[str, Mapping[str, float]]) -> Table:
    """Return the figures of one part for display."""
    shown = Table("", "HR@10", "HR@20", "overlap@20", "coverage@20", title=part)
    for name, of_way in figures.items():
        cells = (of_way[key] for key in ("hr_at_10", "hr_at_20", "overlap_at_20", "coverage_at_20"))
        shown.add_row(name.replace("_", " "), *(f"{cell:.3f}" for cell in cells))
    return shown


def _cosines(vectors_IH: Tensor) -> Tensor:
    unit_IH = F.normalize(vectors_IH)
    return unit_IH @ unit_IH.T


def _best_others(scores_II: Tensor) -> Lists:
    """The items with the largest scores for each item, but for itself."""
    lists: Lists = scores_II.fill_diagonal_(-torch.inf).topk(LIST_LENGTH, dim=1).indices.numpy()
    return lists


if __name__ == "__main__":
    main()
