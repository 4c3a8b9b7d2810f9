"""A whole training run: from an interaction log to a release."""

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console

from winnow.evaluation.ranks import evaluate
from winnow.history import WatchHistories
from winnow.logs.interactions import Interactions, read_interactions
from winnow.logs.items_file import read_items
from winnow.logs.side_values import SideValues, side_values
from winnow.logs.split import SPLITS, LogSplit
from winnow.release.models.writer import ReleaseContents, write_release
from winnow.training.candidate_run import train_candidate_stage
from winnow.training.checkpoint import run_identity
from winnow.training.impression_run import ImpressionLog, train_on_impressions
from winnow.training.loop import train
from winnow.training.presets import TrainingSettings
from winnow.training.trained import Trained
from winnow.training.watch_ranking_trainee import RankingStage

SAMPLE_HISTORY_COUNT = 16


@dataclass(frozen=True, kw_only=True)
class RunPaths:
    """What a run reads and where it writes."""

    interactions: Path
    items: Path | None
    releases: Path
    checkpoints: Path
    impressions: Path | None = None


@dataclass(frozen=True, kw_only=True)
class RunResult:
    """The release that a run wrote, and its figures by part of the data and stage."""

    release_id: str
    figures: Mapping[str, Mapping[str, Mapping[str, float]]]


def run(
    paths: RunPaths, settings: TrainingSettings, *, resume: bool, device: torch.device, console: Console
) -> RunResult:
    """Train both networks, evaluate them and write a release. With a log of impressions, ranking learns from those.

    Nothing is written before all input has been read. Raises InteractionLogError where it cannot be used, and
    CheckpointError where `resume` meets a checkpoint of another run.
    """
    interactions = read_interactions(
        paths.interactions, vocabulary_size=settings.vocabulary_size, min_item_count=settings.min_item_count
    )
    descriptions = read_items(paths.items, interactions.vocabulary)
    console.print(
        f"{len(interactions.histories.rows):,} watches of {len(interactions.vocabulary):,} items "
        f"by {len(interactions.user_ids):,} users"
    )
    sides = [side_values(descriptions.attributes, column) for column in settings.candidate.attribute_columns]
    if paths.impressions is None:
        trained = _train_on_watches(
            interactions, sides, settings, checkpoints=paths.checkpoints, resume=resume, device=device, console=console
        )
    else:
        log = ImpressionLog.read(paths.impressions, paths.items, interactions, settings)
        trained = train_on_impressions(
            log, sides, settings, checkpoints=paths.checkpoints, resume=resume, device=device, console=console
        )
    release_id = write_release(
        paths.releases,
        ReleaseContents(
            vocabulary=interactions.vocabulary,
            candidate_network=trained.candidate_network.cpu(),
            ranking_network=trained.ranking_network.cpu(),
            popularity=_popularity(interactions),
            titles=descriptions.titles,
            attributes=descriptions.attributes,
            sample_histories=trained.sample_histories,
            sample_contexts=trained.sample_contexts,
            training=_provenance(settings, interactions, trained),
            figures=trained.figures,
        ),
    )
    return RunResult(release_id=release_id, figures=trained.figures)


def _train_on_watches(
    interactions: Interactions,
    sides: Sequence[SideValues],
    settings: TrainingSettings,
    *,
    checkpoints: Path,
    resume: bool,
    device: torch.device,
    console: Console,
) -> Trained:
    """Train the candidate network, then the ranking network on what it returns."""
    split = SPLITS[settings.split](interactions.histories)
    console.print(f"Split: {split.description}")
    watch_counts = np.bincount(split.training.rows, minlength=len(interactions.vocabulary))
    candidate, candidate_log, identity = train_candidate_stage(
        split,
        watch_counts,
        sides,
        settings,
        fingerprint=interactions.fingerprint,
        checkpoints=checkpoints,
        resume=resume,
        device=device,
        console=console,
    )
    ranking = RankingStage(
        split,
        candidate.network,
        settings.ranking,
        held_back=candidate.held_back,
        seed=settings.seed,
        device=device,
    )
    ranking_log = train(
        ranking,
        epochs=settings.ranking.epochs,
        seed=settings.seed,
        identity=run_identity(identity, settings.ranking, settings.seed),
        checkpoint=checkpoints / "ranking.safetensors",
        resume=resume,
        console=console,
    )
    figures = {
        name: evaluate(
            candidate.network,
            ranking.network,
            held_out,
            watch_counts=watch_counts,
            candidate_count=settings.ranking.candidate_count,
        )
        for name, held_out in (("validation", split.validation), ("test", split.test))
        if len(held_out)
    }
    return Trained(
        candidate_network=candidate.network,
        ranking_network=ranking.network,
        epochs={"candidate": candidate_log, "ranking": ranking_log},
        figures=figures,
        max_training_timestamp=int(split.training.timestamps.max(initial=0)),
        sample_histories=_sample_histories(split, settings.candidate.history_length),
    )


def _popularity(interactions: Interactions) -> NDArray[np.float32]:
    counts = np.bincount(interactions.histories.rows, minlength=len(interactions.vocabulary))
    share: NDArray[np.float32] = (counts / counts.sum()).astype(np.float32)
    return share


def _sample_histories(split: LogSplit, history_length: int) -> WatchHistories:
    """Take users spread evenly over the log: of the test, or of the training where nobody has watches to spare."""
    histories = split.test.histories if len(split.test) else split.training
    users = np.linspace(0, len(histories) - 1, min(SAMPLE_HISTORY_COUNT, len(histories))).astype(np.int64)
    return WatchHistories.concatenate([histories.slice(user, user + 1) for user in users.tolist()]).last(history_length)


def _provenance(settings: TrainingSettings, interactions: Interactions, trained: Trained) -> dict[str, Any]:
    return {
        "settings": dataclasses.asdict(settings),
        "data_sha256": interactions.fingerprint,
        # Example age counts back from here; in serving it is zero.
        "max_training_timestamp": trained.max_training_timestamp,
        "user_count": len(interactions.user_ids),
        "watch_count": len(interactions.histories.rows),
        "torch_version": torch.__version__,
        "epochs": {stage: log.epochs for stage, log in trained.epochs.items()},
        "best_epochs": {stage: log.best_epoch for stage, log in trained.epochs.items()},
    }
