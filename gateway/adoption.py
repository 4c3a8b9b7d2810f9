"""When requests may go to a new release: when the stages hold it, and a replica that is broken does not count."""

import asyncio
from collections.abc import Mapping

from gateway.stage_calls import StageCaller

# Loading takes some replicas longer than others. A release that most of them hold waits this long for the others, so
# that they do not drop out of service meanwhile.
SLOW_LOADING_SECONDS = 10.0


class Adoption:
    """Asks the stages whether they hold a release, again and again, until requests may go to it."""

    def __init__(self) -> None:
        self._held_by_most_since: dict[str, float] = {}
        """Event-loop time, by release, as long as most replicas of each stage hold it."""

    async def waits_for(
        self, release_id: str, empty_requests: Mapping[StageCaller, bytes], *, in_use: bool = False
    ) -> str:
        """Return what the release waits for; nothing, as soon as requests may go to it.

        They may when every replica that works holds it, or when most of each stage have held it for a while. One that
        is `in_use` stays so while a stage does not answer at all: others would get no better answer from that stage.
        """
        reasons, held_by_most = [], True
        for caller, empty_request in empty_requests.items():
            held_count, lacking = await caller.holding(empty_request)
            if lacking:
                reasons.append(f"{caller.stage}: not held by {', '.join(sorted(set(lacking)))}")
            elif not held_count and in_use:
                continue
            elif not held_count:
                reasons.append(f"{caller.stage}: no replica answers")
            held_by_most &= held_count > len(lacking)
        now = asyncio.get_running_loop().time()
        if not held_by_most:
            self._held_by_most_since.pop(release_id, None)
        elif now - self._held_by_most_since.setdefault(release_id, now) >= SLOW_LOADING_SECONDS:
            return ""
        return "; ".join(reasons)
