"""Which requests are taken, and how much of their time the stages get. Deadlines are event-loop times in seconds."""

import asyncio

from gateway.settings import GatewaySettings
from winnow.rpc.errors import OverloadedError

# A request is taken if it is expected to take this part of the time left. At the whole of it many would be served just
# too late: expectations are estimates, and what is computed in vain has kept other work from being done.
ADMITTED_SHARE = 0.7
# The reserve is at most this part of the time left: a short deadline is still worth a try.
LARGEST_RESERVE_SHARE = 0.5


def stage_deadline(remaining_seconds: float, settings: GatewaySettings) -> float:
    """Return when the stages have to be done, so that there is time for the answer, degraded or not."""
    reserve_seconds = max(settings.reserve_seconds, settings.reserve_share * remaining_seconds)
    for_stages = remaining_seconds - min(reserve_seconds, LARGEST_RESERVE_SHARE * remaining_seconds)
    return asyncio.get_running_loop().time() + for_stages


def check_time(expected_seconds: float, deadline: float) -> None:
    """Raise OverloadedError where what is under way already leaves too little time.

    Asked before anything is computed: what is rejected after retrieval has cost a retrieval.
    """
    if not expected_seconds:
        return
    remaining_seconds = deadline - asyncio.get_running_loop().time()
    if expected_seconds > ADMITTED_SHARE * remaining_seconds:
        raise OverloadedError("too much work is waiting", retry_after_seconds=expected_seconds)
