"""The options of the commands that compute with the networks: on which device, and with how many threads."""

from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    import torch

Device = Annotated[str, typer.Option(help="cpu, cuda or cuda:N.")]
Threads = Annotated[int | None, typer.Option(min=1, max=1024, help="CPU threads; torch decides by default.")]


def set_up_torch(device: str, threads: int | None) -> "torch.device":
    """Return the device, and limit the threads of torch. Raises BadParameter where there is no such device here."""
    import torch

    if threads is not None:
        torch.set_num_threads(threads)
    try:
        found = torch.device(device)
    except RuntimeError:
        found = None
    if found is None or found.type not in ("cpu", "cuda"):
        raise typer.BadParameter(f"there is no device {device!r}, only cpu, cuda and cuda:N")
    if found.type == "cuda" and (found.index or 0) >= torch.cuda.device_count():
        raise typer.BadParameter(f"there is no {device}: this machine, or this build of torch, has "
                                 f"{torch.cuda.device_count()} CUDA devices")  # fmt: skip
    return found
