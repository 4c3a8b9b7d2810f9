"""What every part of one training run is given."""

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, Self

import torch
from rich.console import Console

from winnow.networks.hardware import has_bfloat16
from winnow.training.presets import stated

CPU = torch.device("cpu")


@dataclass(frozen=True, kw_only=True)
class RunContext:
    """What the data and the settings of a network do not say about its training."""

    seed: int
    data: str
    """Fingerprints of everything that is learned from: a checkpoint of other data is not resumed."""
    checkpoints: Path
    """The directory of the checkpoints, one file for each network."""
    console: Console
    resume: bool = False
    """Continue from the checkpoints that exist."""
    device: torch.device = CPU
    precision: torch.dtype = torch.float32
    """Of matrix products; weights and sums are float32."""
    after_epoch: Callable[[str, int, Mapping[str, float]], None] | None = None
    """Told after every epoch: which network, which epoch counted from 1, its figures on validation. What it raises ends
    the run."""

    @property
    def continues(self) -> bool:
        """Whether there is a checkpoint to continue from."""
        return self.resume and any(self.checkpoints.glob("*.safetensors"))

    def also_from(self, *fingerprints: str) -> Self:
        """Return the context of what learns from further data too."""
        return replace(self, data=" ".join([self.data, *fingerprints]))

    def identity(self, settings: Any) -> str:
        """Name the training of a network with these settings, a dataclass of presets.py: what its checkpoint is of."""
        content = json.dumps([self.data, stated(settings), self.seed], sort_keys=True)
        return hashlib.sha256(content.encode()).hexdigest()


def choose_precision(name: Literal["auto", "float32", "bfloat16"], device: torch.device) -> torch.dtype:
    """Resolve "auto": bfloat16 where the device has instructions for it."""
    wanted = has_bfloat16(device) if name == "auto" else name == "bfloat16"
    return torch.bfloat16 if wanted else torch.float32
