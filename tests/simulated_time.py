"""Tests of what happens when, without waiting for it."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

from winnow.capacity.simulated_loop import SimulatedLoop


def simulate(main: Callable[[], Coroutine[Any, Any, None]]) -> None:
    with asyncio.Runner(loop_factory=SimulatedLoop) as runner:
        runner.run(main())
