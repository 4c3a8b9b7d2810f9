"""Which preset fits a log, and how much memory training takes."""

import resource
import sys

from winnow.logs.inspection import LogInspection


def fitting_preset(log: LogInspection) -> str:
    """Return the name of the preset to begin with.

    "order" reads neither weights nor times, so it fits a log that has none worth reading. Of the others "record" is
    better and several times slower than "demo".
    """
    return "demo" if log.weighted or log.order_known else "order"


def peak_memory_bytes() -> int:
    """Return the most memory that this process has had."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
