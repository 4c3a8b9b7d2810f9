"""The epochs of a network: steps, learning rate, validation, checkpoints, the best epoch."""

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Protocol

import torch
from torch import Tensor, nn

from winnow.training.checkpoint import CheckpointFiles, CheckpointStore, EpochLog
from winnow.training.presets import CandidateSettings, ImpressionSettings, RankingSettings
from winnow.training.progress import training_progress
from winnow.training.run_context import RunContext

WARM_UP_SHARE = 0.15
# The cosine ends above zero, so that the last steps still change something.
LAST_RATE_FACTOR = 0.003


class Trainee(Protocol):
    """One network in training."""

    @property
    def name(self) -> str:
        """Which of the two networks it is: "candidate" or "ranking"."""

    @property
    def settings(self) -> CandidateSettings | RankingSettings | ImpressionSettings:
        """How it is trained, and for how many epochs."""

    @property
    def network(self) -> nn.Module:
        """The network; after training, that of the best epoch."""

    @property
    def optimizers(self) -> Sequence[torch.optim.Optimizer]:
        """The optimizers of every step; the loop scales their learning rates."""

    @property
    def steps_per_epoch(self) -> int:
        """How many losses an epoch yields."""

    @property
    def counts_untrained(self) -> bool:
        """Whether the network before its first epoch may be the best one: then it is validated, too, as epoch 0."""

    def losses(self, epoch: int) -> Iterator[tuple[Tensor, int]]:
        """Yield the mean loss and the number of examples of each step; the loop steps between them.

        Deterministic in the epoch, which counts from 0, and in torch's generator, which the loop seeds.
        """

    def validate(self) -> Mapping[str, float]:
        """Return the figures on validation, the most important first; larger is better.

        The epoch with the best figures is kept: the first one decides, among equals the second, and so on.
        """


def train(trainee: Trainee, context: RunContext, store: CheckpointStore | None = None) -> EpochLog:
    """Train for the epochs of the settings, at most, then leave the epoch that validated best in `trainee.network`.

    Epoch 0 is the network before training, where the trainee counts it. The state is written to a checkpoint after
    every epoch: in `store` or, without one, in a file. Resuming from it gives the same result as a run that was never
    interrupted. Raises CheckpointError where the checkpoint is of other data or settings, and OSError where it cannot
    be written.
    """
    epochs, identity = trainee.settings.epochs, context.identity(trainee.settings)
    store = CheckpointFiles(context.checkpoints) if store is None else store
    log, best = EpochLog(), dict[str, Tensor]()
    if context.resume:
        found = store.load(trainee.name, network=trainee.network, optimizers=trainee.optimizers, identity=identity)
        log, best = found or (log, best)
    first_rates = [[group["lr"] for group in optimizer.param_groups] for optimizer in trainee.optimizers]
    total_steps = epochs * trainee.steps_per_epoch
    with torch.random.fork_rng(), training_progress(context.console, f"{trainee.name} network") as progress:
        if trainee.counts_untrained and not log.epochs:
            trainee.network.eval()
            figures = trainee.validate()
            progress.before_training(figures)
            log.best_epoch, log.best_score = 0, list(figures.values())
            best = _copied(trainee.network)
        for epoch in range(len(log.epochs), epochs):
            if _stops(log, trainee.settings.patience):
                progress.stop_early(epoch, trainee.settings.patience)
                break
            # Seeding each epoch by itself makes a resumed run draw what the uninterrupted one would have drawn.
            torch.manual_seed(context.seed + epoch)
            progress.start_epoch(epoch + 1, epochs, trainee.steps_per_epoch)
            trainee.network.train()
            for step, (loss, example_count) in enumerate(trainee.losses(epoch), start=epoch * trainee.steps_per_epoch):
                factor = learning_rate_factor(step, total_steps)
                for optimizer, rates in zip(trainee.optimizers, first_rates, strict=True):
                    for group, rate in zip(optimizer.param_groups, rates, strict=True):
                        group["lr"] = rate * factor
                take_step(trainee.optimizers, loss)
                progress.advance(loss.detach().item(), example_count)
            trainee.network.eval()
            figures = trainee.validate()
            progress.end_epoch(figures)
            log.epochs.append({"loss": progress.mean_loss, **figures})
            score = list(figures.values())
            if score > log.best_score:
                log.best_epoch, log.best_score = epoch + 1, score
                best = _copied(trainee.network)
            store.save(
                trainee.name,
                network=trainee.network,
                best=best,
                optimizers=trainee.optimizers,
                log=log,
                identity=identity,
            )
            if context.after_epoch is not None:
                context.after_epoch(trainee.name, epoch + 1, figures)
    trainee.network.load_state_dict(best)
    trainee.network.eval()
    return log


def take_step(optimizers: Sequence[torch.optim.Optimizer], loss: Tensor) -> None:
    """Move the weights down the gradient of a loss."""
    for optimizer in optimizers:
        optimizer.zero_grad(set_to_none=True)
    loss.backward()  # type: ignore[no-untyped-call]
    for optimizer in optimizers:
        optimizer.step()


def _copied(network: nn.Module) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in network.state_dict().items()}


def _stops(log: EpochLog, patience: int) -> bool:
    """Say whether `patience` epochs have passed since the best one; with 0, they never have."""
    return bool(patience) and log.best_epoch is not None and len(log.epochs) - log.best_epoch >= patience


def learning_rate_factor(step: int, total_steps: int) -> float:
    """Return the learning rate of a step as a share of the largest: a linear warm-up, then half a cosine."""
    done = (step + 1) / total_steps
    if done < WARM_UP_SHARE:
        return done / WARM_UP_SHARE
    cosine = 0.5 * (1 + math.cos(math.pi * (done - WARM_UP_SHARE) / (1 - WARM_UP_SHARE)))
    return max(cosine, LAST_RATE_FACTOR)
