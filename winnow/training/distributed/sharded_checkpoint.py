"""The state of a network in training by several processes, on disk, written by all of them.

Tables are written as DTensors in the order of the layout's positions, which does not depend on how many processes there
are: torch.distributed.checkpoint gives each process of a later run the rows that are its own then.
"""

import json
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.state_dict_loader import load
from torch.distributed.checkpoint.state_dict_saver import save
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.tensor import DTensor, Shard

from winnow.training.checkpoint import CheckpointError, EpochLog
from winnow.training.distributed.processes import Processes
from winnow.training.distributed.sharded_table import ShardedTable

LOG_FILE = "log.json"


def check_shared(directory: Path, processes: Processes) -> None:
    """Raise ValueError in all processes where not all of them see what the first one writes. Collective."""
    mark = directory / "shared"
    if processes.rank == 0:
        mark.touch()
    processes.wait()
    seen = processes.agree(mark.exists())
    if processes.rank == 0:
        mark.unlink()
    if not seen:
        raise ValueError(
            f"{directory} is not the same for all processes: checkpoints need a file system that they share"
        )


@dataclass(frozen=True, kw_only=True)
class ShardedCheckpoints:
    """Directories `candidate-3.sharded` and so on, one for the last finished epoch of each network.

    All processes need to see them: the directory is on a file system that they share. All methods are collective.
    """

    directory: Path
    item_count: int
    mesh: DeviceMesh
    processes: Processes

    def load(
        self, name: str, *, network: nn.Module, optimizers: Sequence[torch.optim.Optimizer], identity: str
    ) -> tuple[EpochLog, dict[str, Tensor]] | None:
        """See CheckpointStore.load."""
        found = self._existing(name)
        if not found:
            return None
        path = found[-1]
        try:
            content = json.loads((path / LOG_FILE).read_text())
            log = EpochLog(**content["log"])
        except (OSError, ValueError, TypeError, KeyError) as error:
            raise CheckpointError(f"{path} is not a checkpoint: {error}") from None
        if content["identity"] != identity:
            raise CheckpointError(f"{path} was made with other settings or data: use those, or train without resuming")
        best = {key: torch.empty_like(tensor) for key, tensor in network.state_dict().items()}
        for optimizer in optimizers:
            _fill_state(optimizer)
        tensors = self._tensors(network, best, optimizers)
        try:
            load(tensors, checkpoint_id=path)
        except CheckpointException as error:
            raise CheckpointError(f"{path} cannot be read: {error}") from error
        for number, optimizer in enumerate(optimizers):
            for parameter_number, _, state in _states(optimizer):
                if not isinstance(state["step"], Tensor):
                    state["step"] = int(tensors[_key(number, parameter_number, "step")])
        return log, best

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
        path = self.directory / f"{name}-{len(log.epochs)}.sharded"
        partial = path.with_suffix(".partial")
        if self.processes.rank == 0:
            shutil.rmtree(partial, ignore_errors=True)
            partial.mkdir(parents=True)
        self.processes.wait()
        save(self._tensors(network, best, optimizers), checkpoint_id=partial)
        if self.processes.rank == 0:
            (partial / LOG_FILE).write_text(json.dumps({"identity": identity, "log": asdict(log)}))
            earlier = self._existing(name)
            if path.exists():
                shutil.rmtree(path)
            partial.rename(path)
            for other in earlier:
                if other != path:
                    shutil.rmtree(other)
        self.processes.wait()

    def _existing(self, name: str) -> list[Path]:
        """Return the checkpoints of a network, the latest epoch last."""
        found = self.directory.glob(f"{name}-*.sharded")
        return sorted(found, key=lambda path: int(path.stem.removeprefix(f"{name}-")))

    def _tensors(
        self, network: nn.Module, best: Mapping[str, Tensor], optimizers: Sequence[torch.optim.Optimizer]
    ) -> dict[str, Tensor]:
        """Return everything that the next epoch depends on. Memory is shared, so that loading fills the tensors."""
        tables = {id(module.weight) for module in network.modules() if isinstance(module, ShardedTable)}
        names = {name for name, parameter in network.named_parameters() if id(parameter) in tables}
        tensors = {}
        for prefix, weights in (("network", network.state_dict()), ("best", best)):
            for name, tensor in weights.items():
                tensors[f"{prefix}.{name}"] = self._whole(tensor) if name in names else tensor
        for number, optimizer in enumerate(optimizers):
            for parameter_number, parameter, state in _states(optimizer):
                for name, value in state.items():
                    value = torch.as_tensor(value)
                    of_rows = id(parameter) in tables and value.shape == parameter.shape
                    tensors[_key(number, parameter_number, name)] = self._whole(value) if of_rows else value
        return tensors

    def _whole(self, own_rows: Tensor) -> Tensor:
        shape = torch.Size([self.item_count, *own_rows.shape[1:]])
        stride = own_rows.stride()
        whole: Tensor = DTensor.from_local(
            own_rows.detach(), self.mesh, [Shard(0)], run_check=False, shape=shape, stride=stride
        )
        return whole


def _key(optimizer: int, parameter: int, name: str) -> str:
    return f"optimizer.{optimizer}.{parameter}.{name}"


def _states(optimizer: torch.optim.Optimizer) -> Iterator[tuple[int, Tensor, dict[str, Tensor | int]]]:
    """Yield the parameters of an optimizer that have a state, numbered over all its groups."""
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    for number, parameter in enumerate(parameters):
        if parameter in optimizer.state:
            yield number, parameter, optimizer.state[parameter]


def _fill_state(optimizer: torch.optim.Optimizer) -> None:
    """Give every parameter the state that Adam and SparseAdam create in their first step, to be overwritten."""
    whole_steps = isinstance(optimizer, torch.optim.SparseAdam)
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            optimizer.state[parameter] = {
                "step": 0 if whole_steps else torch.zeros((), dtype=torch.float32, device=parameter.device),
                "exp_avg": torch.zeros_like(parameter),
                "exp_avg_sq": torch.zeros_like(parameter),
            }
