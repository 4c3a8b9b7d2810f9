"""Threads that give way to those that serve."""

import os
import threading
from contextlib import suppress

# Serving goes first where both want a core.
BACKGROUND_NICENESS = 10


def give_way_to_serving() -> None:
    """Lower the priority of the calling thread, for good."""
    # On Linux priorities belong to threads. Elsewhere this changes nothing, and both simply compete.
    with suppress(OSError, AttributeError):
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), BACKGROUND_NICENESS)
