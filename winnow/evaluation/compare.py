"""A release beside the baselines, on the held-out watches of a log."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from winnow.evaluation.measure import WATCHES_A_BLOCK, Answers, ask, calibration, measure
from winnow.evaluation.recommenders import (
    AlternatingLeastSquares,
    CandidateOrder,
    Chain,
    Popularity,
    Recommender,
    Withholding,
    ease,
    item_knn,
)
from winnow.history import RaggedRows
from winnow.logs.input_table import InteractionLogError
from winnow.logs.interactions import Interactions, read_interactions
from winnow.logs.split import SPLITS, HeldOut, LogSplit
from winnow.release.models.loader import load_candidate_network, load_ranking_network
from winnow.release.reader import Release

CANDIDATE, CHAIN = "candidate", "chain"
BASELINES = ("popularity", "item-knn", "ease", "als")
SEED = 1
# What a caller may not know of the watches: their weights, their times.
WITHHELD = {"weights": (True, False), "timestamps": (False, True), "either": (True, True)}


@dataclass(frozen=True, kw_only=True, eq=False)
class Compared:
    """One recommender's answers and figures for one part of the log.

    `withheld` says that it was not told all that the log knows of the watches.
    `calibration` is of the probabilities that the chain gives, empty for others: see measure.calibration.
    """

    name: str
    withheld: bool
    part: str
    answers: Answers
    figures: dict[str, float]
    calibration: list[dict[str, float]]


@dataclass(frozen=True, kw_only=True, eq=False)
class Log:
    """The log that the release was trained on, split as it was in training."""

    split: LogSplit
    watch_counts: NDArray[np.int64]

    @classmethod
    def read(cls, path: Path, release: Release) -> "Log":
        """Raise InteractionLogError where it is not the log of the release: its figures would mean nothing."""
        settings = release.manifest.training.get("settings", {})
        interactions: Interactions = read_interactions(
            path,
            vocabulary_size=settings.get("vocabulary_size", release.manifest.item_count),
            min_item_count=settings.get("min_item_count", 1),
        )
        if interactions.fingerprint != release.manifest.training.get("data_sha256"):
            raise InteractionLogError(
                f"{path} is not what release {release.release_id} was trained on: what is held out here was seen there"
            )
        split = SPLITS[settings.get("split", "leave-last-out")](interactions.histories)
        counts = np.bincount(split.training.rows, minlength=len(interactions.vocabulary))
        return cls(split=split, watch_counts=counts)

    @property
    def parts(self) -> dict[str, HeldOut]:
        """The held-out watches by name."""
        return {"validation": self.split.validation, "test": self.split.test}


def compare(
    release: Release,
    log: Log,
    *,
    parts: Sequence[str],
    baselines: Sequence[str],
    withhold: bool,
    device: torch.device,
) -> Iterator[Compared]:
    """Measure the stages of the release, then the baselines, each as soon as it is ready.

    With `withhold`, the stages are also asked without the weights of the watches, without their times and without both.
    Raises ImportError, before anything is computed, where a baseline needs the extra `evaluation`, and ValueError where
    the catalogue is too large for one.
    """
    if "als" in baselines:
        import implicit  # noqa: F401 - asked for early
    item_count = release.manifest.item_count
    for name, recommender in _recommenders(release, log.split.training, baselines, withhold, device):
        for part in parts:
            held_out = log.parts[part]
            answers = ask(recommender, held_out, item_count)
            yield Compared(
                name=name,
                withheld=isinstance(recommender, Withholding),
                part=part,
                answers=answers,
                figures=measure(answers, log.watch_counts, seed=SEED),
                calibration=_calibration(recommender, held_out) if isinstance(recommender, Chain) else [],
            )


def _calibration(chain: Chain, held_out: HeldOut) -> list[dict[str, float]]:
    """Compare how probable the chain takes its candidates with how often one of them is what was watched."""
    predicted, actual = [], []
    for start in range(0, len(held_out), WATCHES_A_BLOCK):
        block = held_out.slice(start, min(start + WATCHES_A_BLOCK, len(held_out)))
        rows_BK, probabilities_BK = chain.probabilities(block.histories)
        predicted.append(probabilities_BK.ravel())
        actual.append((rows_BK == block.targets[:, None]).ravel())
    return calibration(np.concatenate(predicted), np.concatenate(actual))


def _recommenders(
    release: Release, training: RaggedRows, baselines: Sequence[str], withhold: bool, device: torch.device
) -> Iterator[tuple[str, Recommender]]:
    candidate_network = load_candidate_network(release, device)
    ranking_network = load_ranking_network(release, device)
    settings = release.manifest.training.get("settings", {})
    candidate_count = int(settings.get("ranking", {}).get("candidate_count", 200))
    item_count = release.manifest.item_count
    stages: dict[str, Recommender] = {
        CANDIDATE: CandidateOrder(candidate_network),
        CHAIN: Chain(candidate_network, ranking_network, candidate_count),
    }
    yield from stages.items()
    if withhold:
        for what, (weights, timestamps) in WITHHELD.items():
            for name, stage in stages.items():
                yield f"{name} without {what}", Withholding(stage, weights=weights, timestamps=timestamps)
    for name in baselines:
        if name == "popularity":
            yield name, Popularity(training, item_count)
        elif name == "item-knn":
            yield name, item_knn(training, item_count)
        elif name == "ease":
            yield name, ease(training, item_count)
        elif name == "als":
            yield name, AlternatingLeastSquares(training, item_count, seed=SEED)
