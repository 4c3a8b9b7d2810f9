"""How commands fail where the user can do something about it: with one line instead of a traceback."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import typer
from rich.console import Console

from winnow.distribution import install_command

if TYPE_CHECKING:
    import torch


@contextmanager
def one_line_errors(*kinds: type[Exception]) -> Iterator[None]:
    """Print errors of these kinds, and any OSError, as one line on stderr, and exit with status 1."""
    expected: tuple[type[Exception], ...] = (OSError, *kinds)
    try:
        yield
    except expected as error:
        message = str(error)
        if isinstance(error, ImportError):
            message += f": {install_command('tune' if error.name == 'optuna' else 'train')}"
        elif isinstance(error, OSError) and error.filename is not None:
            message = f"{error.filename}: {error.strerror}"
        Console(emoji=False, stderr=True, highlight=False, soft_wrap=True).print(message, style="red", markup=False)
        raise typer.Exit(1) from None


def checked_device(name: str) -> "torch.device":
    """Return the device. Raises BadParameter where it is not cpu or a CUDA device of this machine."""
    import torch

    try:
        device = torch.device(name)
    except RuntimeError:
        device = None
    if device is None or device.type not in ("cpu", "cuda"):
        raise typer.BadParameter(f"there is no device {name!r}, only cpu, cuda and cuda:N")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise typer.BadParameter(f"there is no {name}: this machine, or this build of torch, has "
                                 f"{torch.cuda.device_count()} CUDA devices")  # fmt: skip
    return device
