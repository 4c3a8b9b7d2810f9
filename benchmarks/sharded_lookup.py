"""What a step's lookup in a sharded table costs: `torchrun --nproc-per-node 2 -m benchmarks.sharded_lookup`."""

import argparse
import time
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor import DTensor, Replicate, Shard
from torch.nn import functional as F

from winnow.training.distributed.processes import Processes, joined_processes
from winnow.training.distributed.sharded_table import ShardedTable
from winnow.training.distributed.table_layout import TableLayout

REPEATS = 5


def by_dtensor(own: Tensor, rows: Tensor, processes: Processes) -> Callable[[], Tensor]:
    """Look rows up as RowwiseParallel does; return the own part of the gradient."""
    mesh = init_device_mesh("cpu", (processes.count,))
    table = DTensor.from_local(own, mesh, [Shard(0)]).requires_grad_()

    def step() -> Tensor:
        everywhere = DTensor.from_local(rows, mesh, [Shard(0)]).redistribute(placements=[Replicate()])
        found = F.embedding(everywhere, table)
        assert isinstance(found, DTensor)  # noqa: S101
        loss = found.redistribute(placements=[Shard(0)]).to_local().square().mean()
        [gradient] = torch.autograd.grad(loss, [table])
        assert isinstance(gradient, DTensor)  # noqa: S101
        return gradient.to_local()

    return step


def by_sharded_table(own: Tensor, rows: Tensor, processes: Processes) -> Callable[[], Tensor]:
    """Look rows up as training does; return the own part of the gradient."""
    layout = TableLayout(len(own) * processes.count, processes.rank, processes.count)
    table = ShardedTable(nn.Parameter(own), layout, processes)

    def step() -> Tensor:
        [gradient] = torch.autograd.grad(table(rows).square().mean(), [table.weight])
        return gradient

    return step


def main() -> None:
    """Print the CPU time of this process for each way, by turns, and what its gradient is."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--items", type=int, nargs="+", default=[200_000, 2_000_000])
    parser.add_argument("--rows", type=int, default=6000)
    parser.add_argument("--dim", type=int, default=128)
    options = parser.parse_args()
    torch.set_num_threads(1)
    with joined_processes(torch.device("cpu")) as processes:
        generator = torch.Generator().manual_seed(processes.rank)
        for items in options.items:
            own = torch.zeros(items // processes.count, options.dim)
            rows = torch.randint(items, (options.rows,), generator=generator)
            ways = {
                "dtensor": by_dtensor(own, rows, processes),
                "sharded table": by_sharded_table(own.clone(), rows, processes),
            }
            seconds = dict.fromkeys(ways, 0.0)
            gradients = {name: way() for name, way in ways.items()}
            for _ in range(REPEATS):
                for name, way in ways.items():
                    began = time.process_time()
                    way()
                    seconds[name] += (time.process_time() - began) / REPEATS
            for name, gradient in gradients.items():
                if processes.rank == 0:
                    kind = "sparse" if gradient.is_sparse else f"dense, {len(gradient):,} rows"
                    print(f"{items:,} rows, {name}: {1000 * seconds[name]:.0f} ms, gradient {kind}")


if __name__ == "__main__":
    main()
