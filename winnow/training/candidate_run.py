"""The first half of every run: the candidate network, trained on watches."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console

from winnow.logs.side_values import SideValues
from winnow.logs.split import LogSplit
from winnow.training.candidate_trainee import CandidateStage
from winnow.training.checkpoint import EpochLog, run_identity
from winnow.training.loop import train
from winnow.training.precision import Precision
from winnow.training.presets import TrainingSettings


class TrainedCandidateStage(NamedTuple):
    """The stage, how its epochs went, and what identifies its run to whatever is trained on top of it."""

    stage: CandidateStage
    epochs: EpochLog
    identity: str


def train_candidate_stage(
    split: LogSplit,
    watch_counts: NDArray[np.int64],
    sides: Sequence[SideValues],
    settings: TrainingSettings,
    *,
    fingerprint: str,
    checkpoints: Path,
    resume: bool,
    device: torch.device,
    console: Console,
) -> TrainedCandidateStage:
    """Train on the training part of the split, whose data `fingerprint` names.

    `watch_counts`, int64 [I], counts the training watches of every item. Raises CheckpointError where `resume` meets a
    checkpoint of another run.
    """
    stage = CandidateStage(
        split,
        watch_counts,
        settings.candidate,
        sides=sides,
        seed=settings.seed,
        precision=Precision.choose(settings.precision, device),
        device=device,
    )
    data = " ".join([fingerprint, *(side.fingerprint for side in sides), settings.split])
    identity = run_identity(data, settings.candidate, settings.seed)
    epochs = train(
        stage,
        epochs=settings.candidate.epochs,
        seed=settings.seed,
        identity=identity,
        checkpoint=checkpoints / "candidate.safetensors",
        resume=resume,
        console=console,
    )
    return TrainedCandidateStage(stage, epochs, identity)
