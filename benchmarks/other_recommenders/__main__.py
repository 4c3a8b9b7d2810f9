"""Trains and measures recommenders of other libraries on the split of `winnow train`.

    python -m venv rivals
    rivals/bin/pip install '.[train]' --constraint constraints.txt
    rivals/bin/pip install --no-deps recbole==1.2.1 torch-rechub==0.9.0
    rivals/bin/pip install pandas scikit-learn tqdm colorlog colorama texttable thop tabulate psutil pyyaml tensorboard
    PYTHONPATH=. rivals/bin/python -m benchmarks.other_recommenders recbole_sasrec --epochs 4 \
        --interactions data/movielens-1m/interactions.parquet --figures docs/quality.json

They see the order of watches and nothing else, as the preset `order` does. The step size falls to zero over the epochs,
and the last one counts. Their settings are in their modules.
"""

import argparse
import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from winnow.evaluation.best_unseen import best_of_dense, most_watched_first
from winnow.evaluation.compare import PARTS, SEED
from winnow.evaluation.figures_file import FiguresFile
from winnow.evaluation.recommender_figures import ask, measure
from winnow.history import RaggedRows
from winnow.logs.interactions import read_interactions
from winnow.logs.log_format import LogFormat
from winnow.logs.split import LogSplit

SECTION = "other_recommenders"
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
        FiguresFile(arguments.figures, SECTION).save(merged(arguments.figures, arguments.name, found))


def run(name: str, split: LogSplit, item_count: int, epochs: int) -> dict[str, Any]:
    """Train for some epochs. Return the figures of both parts, and what the training took."""
    trained = build(name, split.training, item_count, epochs)
    cpu_seconds = 0.0
    for epoch in range(1, epochs + 1):
        started, cpu_started = time.perf_counter(), time.process_time()
        loss = trained.train_epoch(epoch)
        seconds, cpu_seconds = time.perf_counter() - started, cpu_seconds + time.process_time() - cpu_started
        print(f"{name}, epoch {epoch} of {epochs}: loss {loss:.4f} in {seconds:.0f} s", flush=True)
    recommender = ByScore(trained, split.training, item_count)
    found: dict[str, Any] = {"epochs": epochs, "cpu_seconds": round(cpu_seconds), "settings": dict(trained.settings)}
    for part, held_out in split.held_out.items():
        figures = measure(ask(recommender, held_out, item_count), split.watch_counts(item_count), seed=SEED)
        shown = "  ".join(f"{key} {figures[key]:.4f}" for key in ("hr_at_10", "hr_at_200", "ndcg_at_10"))
        print(f"{name}, {part}: {shown}; {cpu_seconds:.0f} s of CPU time", flush=True)
        found[part] = {key: round(value, DECIMALS) for key, value in figures.items()}
    return found


def merged(path: Path, name: str, found: Mapping[str, Any]) -> dict[str, Any]:
    """Return the section of the figures file with those of one recommender: its figures by part, and its run."""
    sections = json.loads(path.read_text()) if path.exists() else {}
    section = sections.get(SECTION, {})
    figures = {part: {**section.get(part, {}), name: found[part]} for part in PARTS}
    run_of_it = {key: value for key, value in found.items() if key not in PARTS}
    return {**figures, "runs": {**section.get("runs", {}), name: run_of_it}}


def build(name: str, training: RaggedRows, item_count: int, epochs: int) -> Trained:
    """Return the network before training. Imported here: nobody needs both libraries."""
    if name == NAMES[0]:
        from benchmarks.other_recommenders.recbole_sasrec import RecBoleSASRec

        return RecBoleSASRec(training, item_count, epochs)
    from benchmarks.other_recommenders.rechub_youtube_dnn import RechubYoutubeDNN

    return RechubYoutubeDNN(training, item_count, epochs)


if __name__ == "__main__":
    main()
