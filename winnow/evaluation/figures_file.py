"""The JSON file of a comparison, which always holds what has been measured so far."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any


class FiguresFile:
    """Replaced atomically whenever there are more figures. With a section, its other keys are kept."""

    def __init__(self, path: Path, section: str | None) -> None:
        """Read the other keys. Raises OSError where the file cannot be read, and ValueError where it is not JSON."""
        self._path = path
        self._section = section
        self._others: dict[str, Any] = {}
        if section is not None and path.exists():
            self._others = json.loads(path.read_text())

    def save(self, figures: Mapping[str, Any]) -> None:
        """Write the figures. Raises OSError."""
        content = figures if self._section is None else {**self._others, self._section: figures}
        partial = self._path.with_name(f"{self._path.name}.partial")
        try:
            partial.write_text(json.dumps(content, indent=1) + "\n")
            partial.replace(self._path)
        except OSError as error:
            raise OSError(error.errno, error.strerror, str(self._path)) from error
