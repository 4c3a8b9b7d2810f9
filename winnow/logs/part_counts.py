"""How many rows each part of a log has, as its writer counted them: what is lost or added later is found out."""

import json
from collections.abc import Mapping
from pathlib import Path

from pydantic import NonNegativeInt, TypeAdapter, ValidationError

from winnow.logs.text_blocks import InputFileError

COUNTS_FILE = "_rows.json"
"""Names that begin with an underscore are no parts to other programs either."""
_COUNTS = TypeAdapter(dict[NonNegativeInt, NonNegativeInt])


def write_part_counts(log: Path, counts: Mapping[int, int]) -> None:
    """Write down the rows of each part, by its number. Raises OSError."""
    (log / COUNTS_FILE).write_text(json.dumps(dict(sorted(counts.items()))) + "\n")


def read_part_counts(log: Path) -> dict[int, int] | None:
    """Return the rows of each part; None where the writer, such as Spark, has not counted them.

    Raises InputFileError where the file cannot be read.
    """
    path = log / COUNTS_FILE
    try:
        return _COUNTS.validate_json(path.read_bytes())
    except FileNotFoundError:
        return None
    except (OSError, ValidationError) as error:
        raise InputFileError(f"{path} cannot be read: write the parts again, or remove it") from error
