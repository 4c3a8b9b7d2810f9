"""The loss of a step whose examples are in several processes."""

from torch import Tensor

from winnow.training.distributed.processes import Processes


def mean_over_processes(own_mean: Tensor, own_count: int, count: int, processes: Processes) -> Tensor:
    """Return the mean loss over all `count` examples, of which `own_count` with the mean `own_mean` are here.

    Its value is the same in all processes. Its gradient is that of the examples here, `processes.count` times as large
    as they contribute, since gradients become means over the processes.
    """
    contribution = own_mean * (own_count / count)
    value = processes.total(contribution.detach().clone())
    scaled = contribution * processes.count
    return scaled + (value - scaled.detach())
