"""The processes of one training, and what they tell each other.

Every method is collective: all processes have to call it, in the same order.
"""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

# How long a process waits for the others before it gives up. One that has died is noticed at once.
TIMEOUT_SECONDS = 600.0
T = TypeVar("T")

LAUNCH_VARIABLES = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT")


class ProcessLostError(ValueError):
    """Another process of the training has died or does not answer."""


class ShareDone(Exception):  # noqa: N818 - no error
    """A process has done its share of a training, which the first one goes on with alone."""


@dataclass(frozen=True, kw_only=True)
class Processes:
    """The process number `rank` of `count`, which this is: it computes, and sends, on `device`."""

    rank: int
    count: int
    device: torch.device

    def total(self, values: Tensor) -> Tensor:
        """Add the values of all processes, a tensor of the same shape in each; in place."""
        dist.all_reduce(values)
        return values

    def largest(self, values: Tensor) -> Tensor:
        """Return the largest of each value among all processes; in place."""
        dist.all_reduce(values, op=dist.ReduceOp.MAX)
        return values

    def gather(self, values: Tensor) -> list[Tensor]:
        """Return the values of every process, by rank; the first dimension may differ between processes."""
        length = torch.tensor([len(values)], device=self.device)
        lengths = torch.cat(self._gather_equal(length)).tolist()
        padded = values.new_zeros(max(lengths), *values.shape[1:])
        padded[: len(values)] = values
        return [padded[:length] for padded, length in zip(self._gather_equal(padded), lengths, strict=True)]

    def gather_objects(self, value: T) -> list[T]:
        """Return the values of every process, by rank: anything that can be pickled, and is small."""
        gathered: list[T] = [value] * self.count
        dist.all_gather_object(gathered, value)
        return gathered

    def exchange(self, values: Tensor, lengths: Sequence[int], lengths_back: Sequence[int]) -> Tensor:
        """Send `lengths[r]` of the values, one after the other, to each process r; return what they send, by rank.

        Process r sends `lengths_back[r]` values.
        """
        received = values.new_empty(sum(lengths_back), *values.shape[1:])
        dist.all_to_all_single(received, values.contiguous(), list(lengths_back), list(lengths))
        return received

    def _gather_equal(self, values: Tensor) -> list[Tensor]:
        gathered = [torch.empty_like(values) for _ in range(self.count)]
        if values.numel():
            dist.all_gather(gathered, values)
        return gathered

    def agree(self, good: bool) -> bool:
        """Return whether something is good in all processes."""
        return int(self.total(torch.tensor([good], dtype=torch.int64, device=self.device))) == self.count

    def wait(self) -> None:
        """Return when all processes have called it."""
        dist.barrier()


def launched() -> bool:
    """Say whether torchrun, or what sets the same variables, has started this process."""
    return all(name in os.environ for name in LAUNCH_VARIABLES)


def check_alone(command: str) -> None:
    """Raise ValueError where torchrun has started this process: each would do all of the work."""
    if launched():
        raise ValueError(f"{command} runs in one process: start it without torchrun")


@contextmanager
def joined_processes(device: torch.device) -> Iterator[Processes]:
    """Join the other processes that torchrun has started: by gloo on a CPU, by nccl on GPUs.

    "cuda" is the GPU of this process's number on its machine.

    Raises ProcessLostError where they do not come within TIMEOUT_SECONDS, and inside where one is lost.
    """
    rank, count = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    if device.type == "cuda":
        device = torch.device("cuda", int(os.environ["LOCAL_RANK"])) if device.index is None else device
        torch.cuda.set_device(device)
    with _lost_processes_named(rank, count):
        dist.init_process_group("nccl" if device.type == "cuda" else "gloo", timeout=timedelta(seconds=TIMEOUT_SECONDS))
        try:
            yield Processes(rank=rank, count=count, device=device)
        finally:
            dist.destroy_process_group()


@contextmanager
def _lost_processes_named(rank: int, count: int) -> Iterator[None]:
    try:
        yield
    except RuntimeError as error:
        # gloo's errors have no type of their own.
        if not isinstance(error, dist.DistError) and "gloo" not in str(error):
            raise
        raise ProcessLostError(
            f"process {rank} of {count}: another process of the training has ended, or has not answered for "
            f"{TIMEOUT_SECONDS:.0f} seconds. Nothing was published. `--resume` continues after the last finished epoch"
        ) from error
