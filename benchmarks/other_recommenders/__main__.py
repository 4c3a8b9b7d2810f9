"""Trains and measures recommenders of other libraries on the split of `winnow train`.

    python -m venv rivals
    rivals/bin/pip install '.[train]' --constraint constraints.txt
    rivals/bin/pip install --no-deps recbole==1.2.1 torch-rechub==0.9.0
    rivals/bin/pip install pandas scikit-learn tqdm colorlog colorama texttable thop tabulate psutil pyyaml tensorboard
    PYTHONPATH=. rivals/bin/python -m benchmarks.other_recommenders recbole_sasrec --epochs 12 \
        --interactions data/movielens-1m/interactions.parquet --figures docs/quality.json

They see the order of watches and nothing else, as the preset `order` does. After every epoch all unseen items are
ranked for the validation; the epoch with the best NDCG@10 there is the one whose test figures count.
"""

import argparse
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from winnow.evaluation.best_unseen import best_of_dense, most_watched_first
from winnow.evaluation.compare import SEED
from winnow.evaluation.figures_file import FiguresFile
from winnow.evaluation.recommender_figures import ask, measure
from winnow.history import RaggedRows
from winnow.logs.interactions import read_interactions
from winnow.logs.log_format import LogFormat
from winnow.logs.split import LogSplit

NAMES = ("recbole_sasrec", "torch_rechub_youtubednn")
# As the presets for MovieLens-1M.
MIN_ITEM_COUNT = 5
DECIMALS = 4


class Trained(Protocol):
    """A network of another library in training."""

    name: ClassVar[str]
    settings: ClassVar[Mapping[str, Any]]

    def train_epoch(self, epoch: int) -> float:
        """Train on every watch once; return the mean loss. The first epoch is 1."""

    def scores(self, histories: RaggedRows) -> NDArray[np.float32]:
        """Return the score of each item after each history, float32 [B, I]."""


class ByScore:
    """Recommends the unseen items with the largest scores: a Recommender."""

    def __init__(self, trained: Trained, training: RaggedRows, item_count: int) -> None:
        self._trained = trained
        self._preferred_I = most_watched_first(training, item_count)

    def top(self, histories: RaggedRows, count: int) -> NDArray[np.int64]:
        """See Recommender.top."""
        return best_of_dense(self._trained.scores(histories), histories, count, self._preferred_I)


def main() -> None:
    """Train one of them, print its figures after every epoch, and write those of the best."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", choices=NAMES)
    parser.add_argument("--interactions", type=Path, required=True, help="the log")
    parser.add_argument("--epochs", type=int, required=True)
    parser.add_argument("--ties", choices=("file", "hash"), default="file", help="see winnow train --ties")
    parser.add_argument("--figures", type=Path, help="JSON file to add the figures to")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    interactions = read_interactions(
        arguments.interactions,
        vocabulary_size=1_000_000,
        min_item_count=MIN_ITEM_COUNT,
        log_format=LogFormat(ties=arguments.ties),
    )
    found = run(
        arguments.name, LogSplit.leave_last_out(interactions.histories), len(interactions.vocabulary), arguments.epochs
    )
    if arguments.figures is not None:
        FiguresFile(arguments.figures, arguments.name).save(found)


def run(name: str, split: LogSplit, item_count: int, epochs: int) -> dict[str, Any]:
    """Train for some epochs. Return the figures of the best by part, its number and what the training took."""
    trained = build(name, split.training, item_count, epochs)
    recommender = ByScore(trained, split.training, item_count)
    watch_counts = split.watch_counts(item_count)
    found: dict[str, Any] = {}
    cpu_seconds = 0.0
    for epoch in range(1, epochs + 1):
        started, cpu_started = time.perf_counter(), time.process_time()
        loss = trained.train_epoch(epoch)
        seconds, cpu_seconds = time.perf_counter() - started, cpu_seconds + time.process_time() - cpu_started
        validation = measure(ask(recommender, split.validation, item_count), watch_counts, seed=SEED)
        shown = "  ".join(f"{key} {validation[key]:.4f}" for key in ("hr_at_10", "hr_at_200", "ndcg_at_10"))
        print(f"{trained.name}, epoch {epoch} of {epochs}: loss {loss:.4f} in {seconds:.0f} s  {shown}", flush=True)
        if not found or validation["ndcg_at_10"] > found["validation"][name]["ndcg_at_10"]:
            test = measure(ask(recommender, split.test, item_count), watch_counts, seed=SEED)
            found = {"validation": {name: rounded(validation)}, "test": {name: rounded(test)}, "best_epoch": epoch}
    shown = "  ".join(f"{key} {found['test'][name][key]:.4f}" for key in ("hr_at_10", "hr_at_200", "ndcg_at_10"))
    print(f"{trained.name}, epoch {found['best_epoch']}, test: {shown}; {cpu_seconds:.0f} s of CPU time", flush=True)
    return {
        "split": split.description, **found, "epochs": epochs, "cpu_seconds": round(cpu_seconds),
        "settings": dict(trained.settings),
    }  # fmt: skip


def build(name: str, training: RaggedRows, item_count: int, epochs: int) -> Trained:
    """Return the network before training. Imported here: nobody needs both libraries."""
    if name == NAMES[0]:
        from benchmarks.other_recommenders.recbole_sasrec import RecBoleSASRec

        return RecBoleSASRec(training, item_count, epochs)
    from benchmarks.other_recommenders.rechub_youtube_dnn import RechubYoutubeDNN

    return RechubYoutubeDNN(training, item_count, epochs)


def rounded(figures: Mapping[str, float]) -> dict[str, float]:
    """Return figures as they are kept."""
    return {key: round(value, DECIMALS) for key, value in figures.items()}


if __name__ == "__main__":
    main()
