"""The state of a network in training, on disk: a safetensors file with JSON metadata, replaced atomically."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

_METADATA_KEY = "winnow"


class CheckpointError(ValueError):
    """A checkpoint cannot be resumed; the message says which one and why."""


@dataclass(kw_only=True)
class EpochLog:
    """The mean loss and the validation figures of every finished epoch, and which epoch was best, counted from 1.

    The best epoch is 0 where the network was best before it was trained.
    """

    epochs: list[dict[str, float]] = field(default_factory=list)
    best_epoch: int | None = None
    best_score: list[float] = field(default_factory=list)


class CheckpointStore(Protocol):
    """Where the states of the networks of a run are kept."""

    def load(
        self, name: str, *, network: nn.Module, optimizers: Sequence[torch.optim.Optimizer], identity: str
    ) -> tuple[EpochLog, dict[str, Tensor]] | None:
        """Restore the network of this name as `load_checkpoint` does; None where there is no checkpoint of it."""

    def save(
        self,
        name: str,
        *,
        network: nn.Module,
        best: Mapping[str, Tensor],
        optimizers: Sequence[torch.optim.Optimizer],
        log: EpochLog,
        identity: str,
    ) -> None:
        """Write the state of the network of this name as `save_checkpoint` does."""


@dataclass(frozen=True)
class CheckpointFiles:
    """A file for each network."""

    directory: Path

    def load(
        self, name: str, *, network: nn.Module, optimizers: Sequence[torch.optim.Optimizer], identity: str
    ) -> tuple[EpochLog, dict[str, Tensor]] | None:
        """See CheckpointStore.load."""
        path = self._path(name)
        if not path.exists():
            return None
        return load_checkpoint(path, network=network, optimizers=optimizers, identity=identity)

    def save(
        self,
        name: str,
        *,
        network: nn.Module,
        best: Mapping[str, Tensor],
        optimizers: Sequence[torch.optim.Optimizer],
        log: EpochLog,
        identity: str,
    ) -> None:
        """See CheckpointStore.save."""
        save_checkpoint(self._path(name), network=network, best=best, optimizers=optimizers, log=log, identity=identity)

    def _path(self, name: str) -> Path:
        return self.directory / f"{name}.safetensors"


def save_checkpoint(
    path: Path,
    *,
    network: nn.Module,
    best: Mapping[str, Tensor],
    optimizers: Sequence[torch.optim.Optimizer],
    log: EpochLog,
    identity: str,
) -> None:
    """Write everything that the next epoch depends on. `identity` is that of the run. Raises OSError."""
    tensors = {f"network.{name}": tensor for name, tensor in network.state_dict().items()}
    tensors |= {f"best.{name}": tensor for name, tensor in best.items()}
    for number, optimizer in enumerate(optimizers):
        for parameter, state in optimizer.state_dict()["state"].items():
            for name, value in state.items():
                tensors[f"optimizer.{number}.{parameter}.{name}"] = torch.as_tensor(value)
    metadata = {"identity": identity, "epochs": log.epochs, "best_epoch": log.best_epoch, "best_score": log.best_score}
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial")
    try:
        save_file(
            {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()},
            partial,
            metadata={_METADATA_KEY: json.dumps(metadata)},
        )
    except SafetensorError as error:
        partial.unlink(missing_ok=True)
        raise OSError(f"{path} cannot be written: {error}") from error
    partial.replace(path)


def load_checkpoint(
    path: Path, *, network: nn.Module, optimizers: Sequence[torch.optim.Optimizer], identity: str
) -> tuple[EpochLog, dict[str, Tensor]]:
    """Restore the network and the optimizers in place; return the log and the weights of the best epoch.

    Raises CheckpointError where the file is not a checkpoint of this run.
    """
    try:
        with safe_open(path, framework="pt") as file:
            metadata = json.loads(file.metadata()[_METADATA_KEY])
            tensors: dict[str, Tensor] = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, KeyError, TypeError, ValueError) as error:
        raise CheckpointError(f"{path} is not a checkpoint: {error}") from None
    if metadata["identity"] != identity:
        raise CheckpointError(f"{path} was made with other settings or data: use those, or train without resuming")
    network.load_state_dict(_below(tensors, "network."))
    for number, optimizer in enumerate(optimizers):
        state: dict[int, dict[str, Any]] = {}
        for key, value in _below(tensors, f"optimizer.{number}.").items():
            parameter, name = key.split(".")
            # A step counter that was an integer must be one again: as a tensor it would be converted to float32.
            whole = value.dim() == 0 and not value.is_floating_point()
            state.setdefault(int(parameter), {})[name] = value.item() if whole else value
        optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})
    log = EpochLog(epochs=metadata["epochs"], best_epoch=metadata["best_epoch"], best_score=metadata["best_score"])
    return log, _below(tensors, "best.")


def _below(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}
