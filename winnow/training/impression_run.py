"""Trains both networks where there is a log of impressions: one on the watches before them, one on them.

Shape legend: I items.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console

from winnow.catalogue.item_facts import ItemFacts
from winnow.evaluation.impression_figures import calibration, ordering_figures
from winnow.evaluation.ranks import candidate_ranks, figures, popularity_ranks
from winnow.logs.impressions import Impressions, TimeSplit, read_impressions
from winnow.logs.input_table import InteractionLogError
from winnow.logs.interactions import Interactions
from winnow.logs.items_file import read_item_facts
from winnow.logs.rollback import visible_before
from winnow.logs.side_values import SideValues
from winnow.logs.split import LogSplit
from winnow.networks.candidate import DeepCandidateGenerationModel
from winnow.networks.ranking import DeepRankingModel
from winnow.training.candidate_run import train_candidate_stage
from winnow.training.checkpoint import EpochLog, run_identity
from winnow.training.impression_ranking_trainee import ImpressionStage, impression_scores
from winnow.training.loop import train
from winnow.training.presets import ImpressionSettings, TrainingSettings
from winnow.training.trained import Figures, Trained

SAMPLE_IMPRESSION_COUNT = 16


@dataclass(frozen=True, kw_only=True, eq=False)
class ImpressionLog:
    """Impressions by time, and the watches before the first of them.

    The candidate network learns from these watches alone: its logits are features of the impressions, and of clicks
    that it had learned from it would know more than in serving. For the same reason `popularity`, float32 [I], is each
    item's share of these watches.
    """

    interactions: Interactions
    impressions: TimeSplit
    earlier_watches: LogSplit
    popularity: NDArray[np.float32]
    facts: ItemFacts

    @classmethod
    def read(cls, path: Path, items: Path | None, interactions: Interactions, settings: TrainingSettings) -> Self:
        """Read and split. Raises InteractionLogError where a file cannot be used or nothing is left of a part."""
        assert settings.impressions is not None  # noqa: S101 - the command has seen to it
        impressions = read_impressions(path, interactions)
        split = TimeSplit.of(
            impressions,
            validation_share=settings.impressions.validation_share,
            test_share=settings.impressions.test_share,
        )
        for name in ("training", "validation", "test"):
            part: Impressions = getattr(split, name)
            if not (part.watch_seconds > 0).any() or part.clicked.all():
                raise InteractionLogError(f"{path}: the {name} part has no watched impression or no unwatched one")
        histories = interactions.histories
        users = np.repeat(np.arange(len(histories)), histories.lengths)
        is_earlier = histories.timestamps < impressions.timestamps[0]
        counts = np.bincount(users[is_earlier], minlength=len(histories))
        if not counts.any():
            raise InteractionLogError(f"{path}: no watch of the interaction log is earlier than all of the impressions")
        watched = np.flatnonzero(counts)
        earlier = visible_before(histories, watched, counts[watched])
        popularity = np.bincount(earlier.rows, minlength=len(interactions.vocabulary)) / len(earlier.rows)
        return cls(
            interactions=interactions,
            impressions=split,
            earlier_watches=LogSplit.leave_last_out(earlier),
            popularity=popularity.astype(np.float32),
            facts=read_item_facts(items, interactions.vocabulary, popularity.astype(np.float32)),
        )


def train_on_impressions(
    log: ImpressionLog,
    sides: Sequence[SideValues],
    settings: TrainingSettings,
    *,
    checkpoints: Path,
    resume: bool,
    device: torch.device,
    console: Console,
) -> Trained:
    """Train both networks and judge them: the candidate network on watches, the ranking network on impressions."""
    assert settings.impressions is not None  # noqa: S101 - the command has seen to it
    split = log.impressions
    console.print(
        f"{len(split.training):,} impressions to train on, {len(split.validation):,} later ones for validation, "
        f"{len(split.test):,} after those for the test"
    )
    candidate_network, candidate_epochs = train_candidate_network(
        log, sides, settings, checkpoints=checkpoints, resume=resume, device=device, console=console
    )
    ranking_network, ranking_epochs = train_ranking_network(
        log,
        candidate_network,
        settings.impressions,
        seed=settings.seed,
        checkpoints=checkpoints,
        resume=resume,
        device=device,
        console=console,
    )
    samples = split.test.take(np.linspace(0, len(split.test) - 1, SAMPLE_IMPRESSION_COUNT).astype(np.int64))
    return Trained(
        candidate_network=candidate_network,
        ranking_network=ranking_network,
        epochs={"candidate": candidate_epochs, "ranking": ranking_epochs},
        figures=_figures(log, candidate_network, ranking_network),
        max_training_timestamp=int(log.earlier_watches.training.timestamps.max(initial=0)),
        sample_histories=samples.histories(settings.candidate.history_length),
        sample_contexts=samples.contexts(),
    )


def train_candidate_network(
    log: ImpressionLog,
    sides: Sequence[SideValues],
    settings: TrainingSettings,
    *,
    checkpoints: Path,
    resume: bool,
    device: torch.device,
    console: Console,
) -> tuple[DeepCandidateGenerationModel, EpochLog]:
    """Train the candidate network on the watches before the impressions."""
    watches = log.earlier_watches
    stage, epochs, _ = train_candidate_stage(
        watches,
        np.bincount(watches.training.rows, minlength=len(log.popularity)),
        sides,
        settings,
        fingerprint=log.impressions.training.fingerprint,
        checkpoints=checkpoints,
        resume=resume,
        device=device,
        console=console,
    )
    return stage.network, epochs


def train_ranking_network(
    log: ImpressionLog,
    candidate_network: DeepCandidateGenerationModel,
    settings: ImpressionSettings,
    *,
    seed: int,
    checkpoints: Path,
    resume: bool,
    device: torch.device,
    console: Console,
) -> tuple[DeepRankingModel, EpochLog]:
    """Train the ranking network on the training impressions; choose the epoch and recalibrate on the validation."""
    stage = ImpressionStage(log.impressions, candidate_network, log.facts, settings, seed=seed, device=device)
    epochs = train(
        stage,
        epochs=settings.epochs,
        seed=seed,
        identity=run_identity(log.impressions.training.fingerprint, settings, seed),
        checkpoint=checkpoints / "ranking.safetensors",
        resume=resume,
        console=console,
    )
    stage.recalibrate()
    return stage.network, epochs


def impression_figures(network: DeepRankingModel, impressions: Impressions) -> dict[str, float]:
    """Judge the network on impressions: their order and, where it answers with watch time, whether that is true."""
    return figures_of_scores(
        impression_scores(network, impressions), impressions, in_seconds=network.score == "watch_seconds"
    )


def figures_of_scores(scores: NDArray[np.floating], impressions: Impressions, *, in_seconds: bool) -> dict[str, float]:
    """Judge scores [N] of N impressions, as an expected watch time too where they are `in_seconds`."""
    order = ordering_figures(impressions.users, scores, impressions.clicked, impressions.watch_seconds)
    found = {
        "weighted_per_user_loss": order.weighted_per_user_loss,
        "auc_by_user": order.auc_by_user,
        "user_count": float(order.user_count),
    }
    if not in_seconds:
        return found
    ratios = [decile["ratio"] for decile in calibration(scores, impressions.watch_seconds)]
    found["expected_over_actual"] = float(scores.mean(dtype=np.float64) / impressions.watch_seconds.mean())
    found["worst_inner_decile"] = max(abs(ratio - 1) for ratio in ratios[1:-1])
    return found | {f"expected_over_actual_decile_{number}": ratio for number, ratio in enumerate(ratios, start=1)}


def _figures(
    log: ImpressionLog, candidate_network: DeepCandidateGenerationModel, ranking_network: DeepRankingModel
) -> Figures:
    watches = log.earlier_watches
    watch_counts = np.bincount(watches.training.rows, minlength=len(log.popularity))
    return {
        name: {
            "popularity": figures(popularity_ranks(watch_counts, held_out), held_out.users),
            "candidate": figures(candidate_ranks(candidate_network, held_out), held_out.users),
            "impressions": impression_figures(ranking_network, impressions),
        }
        for name, held_out, impressions in (
            ("validation", watches.validation, log.impressions.validation),
            ("test", watches.test, log.impressions.test),
        )
        if len(held_out)
    }
