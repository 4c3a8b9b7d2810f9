"""The epochs of a stage: steps, step size, validation, checkpoints, the best epoch."""

import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Protocol

import torch
from rich.console import Console
from torch import Tensor, nn

from winnow.training.checkpoint import EpochLog, load_checkpoint, save_checkpoint
from winnow.training.progress import TrainingProgress

WARM_UP_SHARE = 0.15
# The cosine ends above zero, so that the last steps still do something.
LAST_RATE_FACTOR = 0.003


class Stage(Protocol):
    """One network in training."""

    @property
    def name(self) -> str:
        """What a person is told is being trained."""
        ...

    @property
    def network(self) -> nn.Module:
        """What is trained, and in the end is the best epoch's."""
        ...

    @property
    def optimizers(self) -> Sequence[torch.optim.Optimizer]:
        """Every optimizer that a step takes; the loop scales their step sizes."""
        ...

    @property
    def steps_per_epoch(self) -> int:
        """How many losses an epoch yields."""
        ...

    def losses(self, epoch: int) -> Iterator[tuple[Tensor, int]]:
        """Yield the mean loss and the number of examples of each step; the loop steps between them.

        Deterministic in the epoch, which counts from 0, and in torch's generator, which the loop seeds.
        """
        ...

    def validate(self) -> Mapping[str, float]:
        """Return the figures on validation, the most important one first; larger is better.

        They choose the epoch that is kept: by the first figure, among equals by the second, and so on.
        """
        ...


def train(
    stage: Stage, *, epochs: int, seed: int, identity: str, checkpoint: Path, resume: bool, console: Console
) -> EpochLog:
    """Train for some epochs, then leave the epoch that validated best in `stage.network`.

    After every epoch the state is written to `checkpoint`; with `resume`, what stands there is continued with the same
    result as if it had never stopped. `identity` names settings and data. Raises CheckpointError where it differs.
    """
    log, best = EpochLog(), dict[str, Tensor]()
    if resume and checkpoint.exists():
        log, best = load_checkpoint(checkpoint, network=stage.network, optimizers=stage.optimizers, identity=identity)
    first_rates = [[group["lr"] for group in optimizer.param_groups] for optimizer in stage.optimizers]
    total_steps = epochs * stage.steps_per_epoch
    with torch.random.fork_rng(), TrainingProgress(console, stage.name) as progress:
        for epoch in range(len(log.epochs), epochs):
            # Seeding each epoch by itself makes a resumed run draw what the uninterrupted one would have drawn.
            torch.manual_seed(seed + epoch)
            progress.start_epoch(epoch + 1, epochs, stage.steps_per_epoch)
            stage.network.train()
            for step, (loss, example_count) in enumerate(stage.losses(epoch), start=epoch * stage.steps_per_epoch):
                factor = learning_rate_factor(step, total_steps)
                for optimizer, rates in zip(stage.optimizers, first_rates, strict=True):
                    optimizer.zero_grad(set_to_none=True)
                    for group, rate in zip(optimizer.param_groups, rates, strict=True):
                        group["lr"] = rate * factor
                loss.backward()  # type: ignore[no-untyped-call]
                for optimizer in stage.optimizers:
                    optimizer.step()
                progress.advance(loss.detach().item(), example_count)
            stage.network.eval()
            figures = stage.validate()
            progress.end_epoch(figures)
            log.epochs.append({"loss": progress.mean_loss, **figures})
            score = list(figures.values())
            if score > log.best_score:
                log.best_epoch, log.best_score = epoch + 1, score
                best = {name: tensor.clone() for name, tensor in stage.network.state_dict().items()}
            save_checkpoint(
                checkpoint,
                network=stage.network,
                best=best,
                optimizers=stage.optimizers,
                log=log,
                identity=identity,
            )
    stage.network.load_state_dict(best)
    stage.network.eval()
    return log


def learning_rate_factor(step: int, total_steps: int) -> float:
    """The step size as a share of the largest: a linear warm-up, then half a cosine."""
    done = (step + 1) / total_steps
    if done < WARM_UP_SHARE:
        return done / WARM_UP_SHARE
    cosine = 0.5 * (1 + math.cos(math.pi * (done - WARM_UP_SHARE) / (1 - WARM_UP_SHARE)))
    return max(cosine, LAST_RATE_FACTOR)
