"""The reference of the command line, written by Typer from the commands themselves."""

import subprocess
import sys


def commands_page() -> str:
    """Return the page, in Markdown."""
    command = [sys.executable, "-m", "typer", "winnow.cli", "utils", "docs", "--name", "winnow", "--title", "Commands"]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout  # noqa: S603 - our own module
