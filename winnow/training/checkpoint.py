"""A training run's state on disk: tensors as safetensors, the rest as JSON in the same file, replaced atomically."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from winnow.training.presets import stated

_METADATA_KEY = "winnow"


class CheckpointError(ValueError):
    """A checkpoint cannot be resumed from; the message says which and why."""


@dataclass(kw_only=True)
class EpochLog:
    """What has happened so far: the mean loss and the validation figures of every finished epoch, and the best one."""

    epochs: list[dict[str, float]] = field(default_factory=list)
    best_epoch: int | None = None
    best_score: list[float] = field(default_factory=list)


def run_identity(data: str, settings: Any, seed: int) -> str:
    """Name what a checkpoint is of, so that it is not continued with anything else: data, a settings class, a seed."""
    content = json.dumps([data, stated(settings), seed], sort_keys=True)
    return hashlib.sha256(content.encode()).hexdigest()


def save_checkpoint(
    path: Path,
    *,
    network: nn.Module,
    best: Mapping[str, Tensor],
    optimizers: Sequence[torch.optim.Optimizer],
    log: EpochLog,
    identity: str,
) -> None:
    """Write everything that the next epoch depends on. `identity` names the settings and the data of the run."""
    tensors = {f"network.{name}": tensor for name, tensor in network.state_dict().items()}
    tensors |= {f"best.{name}": tensor for name, tensor in best.items()}
    for number, optimizer in enumerate(optimizers):
        for parameter, state in optimizer.state_dict()["state"].items():
            for name, value in state.items():
                tensors[f"optimizer.{number}.{parameter}.{name}"] = torch.as_tensor(value)
    metadata = {"identity": identity, "epochs": log.epochs, "best_epoch": log.best_epoch, "best_score": log.best_score}
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial")
    save_file(
        {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()},
        partial,
        metadata={_METADATA_KEY: json.dumps(metadata)},
    )
    partial.replace(path)


def load_checkpoint(
    path: Path, *, network: nn.Module, optimizers: Sequence[torch.optim.Optimizer], identity: str
) -> tuple[EpochLog, dict[str, Tensor]]:
    """Restore the network and the optimizers in place; return the log and the best epoch's tensors.

    Raises CheckpointError where the file is not a checkpoint of this run.
    """
    try:
        with safe_open(path, framework="pt") as file:
            metadata = json.loads(file.metadata()[_METADATA_KEY])
            tensors: dict[str, Tensor] = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, KeyError, TypeError, ValueError) as error:
        raise CheckpointError(f"{path} is not a checkpoint: {error}") from None
    if metadata["identity"] != identity:
        raise CheckpointError(f"{path} is of other settings or other data: train anew, or with what it was begun with")
    network.load_state_dict(_below(tensors, "network."))
    for number, optimizer in enumerate(optimizers):
        state: dict[int, dict[str, Any]] = {}
        for key, value in _below(tensors, f"optimizer.{number}.").items():
            parameter, name = key.split(".")
            # A step counter that was an integer has to be one again: as a tensor it would be computed with in float32.
            whole = value.dim() == 0 and not value.is_floating_point()
            state.setdefault(int(parameter), {})[name] = value.item() if whole else value
        optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})
    log = EpochLog(epochs=metadata["epochs"], best_epoch=metadata["best_epoch"], best_score=metadata["best_score"])
    return log, _below(tensors, "best.")


def _below(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}
