"""A service that reports how long its event loop is held: `python -m benchmarks.fuzz_edge.watched REPORT SERVICE ...`.

The CPU time of every callback is measured, so that other processes on the machine do not count. The loop is asyncio's
own: uvloop's, which services use, cannot be looked into. What they run on it is the same.
"""

import asyncio
import json
import runpy
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

REPORTED_FROM_SECONDS = 0.003


def main(report: Path, service: str, flags: list[str]) -> None:
    """Run the service until it ends."""
    sys.modules["uvloop"] = SimpleNamespace(run=asyncio.run)  # type: ignore[assignment]
    with report.open("w", buffering=1) as lines:
        handle: Any = asyncio.Handle
        handle._run = _measured(handle._run, lambda held: lines.write(json.dumps(held) + "\n"))
        sys.argv = [service, *flags]
        runpy.run_module(service, run_name="__main__")


def _measured(run: Callable[[Any], None], report: Callable[[dict[str, Any]], object]) -> Callable[[Any], None]:
    def measured(handle: Any) -> None:
        what = None
        started_at, started = time.monotonic(), time.thread_time()
        run(handle)
        seconds = time.thread_time() - started
        if seconds >= REPORTED_FROM_SECONDS:
            what = repr(handle)[:300]
            report({"started_at": started_at, "ended_at": time.monotonic(), "cpu_seconds": seconds, "what": what})

    return measured


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], sys.argv[3:])
