"""How commands fail where the user can do something about it: with one line instead of a traceback."""

from collections.abc import Iterator
from contextlib import contextmanager

import typer
from rich.console import Console


@contextmanager
def one_line_errors(*kinds: type[Exception]) -> Iterator[None]:
    """Print errors of these kinds, and any OSError, as one line on stderr, and exit with status 1."""
    expected: tuple[type[Exception], ...] = (OSError, *kinds)
    try:
        yield
    except expected as error:
        message = str(error)
        if isinstance(error, OSError) and error.filename is not None:
            message = f"{error.filename}: {error.strerror}"
        Console(emoji=False, stderr=True, highlight=False, soft_wrap=True).print(message, style="red", markup=False)
        raise typer.Exit(1) from None
