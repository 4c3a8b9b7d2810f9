"""The state of a network in training, on disk: a safetensors file with JSON metadata, replaced atomically."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
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
        """Restore the network of this name, and its optimizers, in place; return the log and the best epoch's weights.

        None where there is no checkpoint of it. Raises CheckpointError where it is not one of the run of this identity.
        """

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
        """Write everything that the next epoch of the network of this name depends on. Raises OSError."""


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
        try:
            with safe_open(path, framework="pt") as file:
                metadata = json.loads(file.metadata()[_METADATA_KEY])
                tensors: dict[str, Tensor] = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
        except (SafetensorError, KeyError, TypeError, ValueError) as error:
            raise CheckpointError(f"{path} is not a checkpoint: {error}") from None
        if metadata["identity"] != identity:
            raise CheckpointError(f"{path} was made with other settings or data: use those, or train without resuming")
        network.load_state_dict(_below(tensors, "network."))
        for number, optimizer in enumerate(optimizers):
            state: dict[int, dict[str, Any]] = {}
            for key, value in _below(tensors, f"optimizer.{number}.").items():
                parameter, part = key.split(".")
                # A step counter that was an integer must be one again: as a tensor it would be converted to float32.
                whole = value.dim() == 0 and not value.is_floating_point()
                state.setdefault(int(parameter), {})[part] = value.item() if whole else value
            optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})
        log = EpochLog(epochs=metadata["epochs"], best_epoch=metadata["best_epoch"], best_score=metadata["best_score"])
        return log, _below(tensors, "best.")

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
        path = self._path(name)
        tensors = {f"network.{key}": tensor for key, tensor in network.state_dict().items()}
        tensors |= {f"best.{key}": tensor for key, tensor in best.items()}
        for number, optimizer in enumerate(optimizers):
            for parameter, state in optimizer.state_dict()["state"].items():
                for part, value in state.items():
                    tensors[f"optimizer.{number}.{parameter}.{part}"] = torch.as_tensor(value)
        metadata = {"identity": identity, **asdict(log)}
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_suffix(".partial")
        try:
            save_file(
                {key: tensor.detach().cpu().contiguous() for key, tensor in tensors.items()},
                partial,
                metadata={_METADATA_KEY: json.dumps(metadata)},
            )
        except SafetensorError as error:
            partial.unlink(missing_ok=True)
            raise OSError(f"{path} cannot be written: {error}") from error
        partial.replace(path)

    def _path(self, name: str) -> Path:
        return self.directory / f"{name}.safetensors"


def _below(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}
