"""What of a network is the same in all processes: trained by DistributedDataParallel."""

from collections.abc import Callable
from typing import Any

from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from winnow.training.distributed.processes import Processes
from winnow.training.distributed.sharded_table import ShardedTable


class DenseParts(nn.Module):
    """The modules of a network besides its tables; `forward` computes anything that uses their weights."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.parts = nn.ModuleList(part for part in network.children() if not isinstance(part, ShardedTable))

    def forward(self, compute: Callable[..., Tensor], *arguments: Any) -> Tensor:
        """Return what `compute` returns, after which DistributedDataParallel awaits the gradients."""
        return compute(*arguments)


def in_parallel(network: nn.Module, processes: Processes) -> DistributedDataParallel:
    """Return the parts, whose gradients become the mean over all processes in every backward pass."""
    devices = [processes.device.index] if processes.device.type == "cuda" else None
    return DistributedDataParallel(DenseParts(network), device_ids=devices)
