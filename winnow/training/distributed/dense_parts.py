"""What of a network is the same in all processes: trained by DistributedDataParallel."""

from collections.abc import Callable
from typing import Any

from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from winnow.training.distributed.processes import Processes
from winnow.training.distributed.sharded_table import ShardedTable


class DenseParts(nn.Module):
    """The weights of a network that are trained, besides its tables; `forward` computes anything with them."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        of_tables = {id(module.weight) for module in network.modules() if isinstance(module, ShardedTable)}
        self.weights = nn.ParameterList(
            parameter
            for parameter in network.parameters()
            if parameter.requires_grad and id(parameter) not in of_tables
        )

    def forward(self, compute: Callable[..., Tensor], *arguments: Any) -> Tensor:
        """Return what `compute` returns, after which DistributedDataParallel awaits the gradients."""
        return compute(*arguments)


def in_parallel(network: nn.Module, processes: Processes) -> DistributedDataParallel:
    """Return the dense parts, whose gradients become the mean over all processes in every backward pass."""
    devices = [processes.device.index] if processes.device.type == "cuda" else None
    return DistributedDataParallel(DenseParts(network), device_ids=devices)
