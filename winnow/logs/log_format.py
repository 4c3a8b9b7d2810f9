"""How a log is written: what its columns are called, the unit of its times, what becomes of rows that are wrong."""

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Literal

Ties = Literal["file", "hash"]
TimeUnit = Literal["seconds", "milliseconds", "microseconds", "nanoseconds"]


@dataclass(frozen=True, kw_only=True)
class LogFormat:
    """The defaults are the format of docs/training.md."""

    user_column: str = "user_id"
    item_column: str = "item_id"
    time_column: str = "timestamp"
    weight_column: str = "weight"
    title_column: str = "title"
    """Of the items file, whose ids may also be called as in the log."""
    time_unit: TimeUnit = "seconds"
    """Of times that are numbers."""
    no_times: bool = False
    """The log has no times, or none to be believed: every watch is of 1970, in the order of the rows."""
    skip_bad_rows: bool = False
    """Leave out rows that cannot be read and count them. By default the first one is an error."""
    ties: Ties = "file"
    """Watches that a user has at the same moment are in the order of the file, or of a hash: see `tie_hashes`."""

    @property
    def column_names(self) -> Mapping[str, str]:
        """What this log calls the columns user_id, item_id, timestamp and weight."""
        return {
            "user_id": self.user_column,
            "item_id": self.item_column,
            "timestamp": self.time_column,
            "weight": self.weight_column,
        }

    def options(self) -> Iterator[str]:
        """Return the options of the command line that stand for this format."""
        for name, value in asdict(self).items():
            if value != getattr(LogFormat, name):
                yield from [f"--{name.replace('_', '-')}", *([] if value is True else [value])]


PLAIN_LOG = LogFormat()
