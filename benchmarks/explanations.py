"""How much longer an explanation takes than the recommendation that it explains.

    python -m benchmarks.explanations --releases releases --interactions data/movielens-1m/interactions.parquet

serves the current release and asks, one call at a time and in turn, for a recommendation and for an explanation of one
of its items, with the latest watches of real users. It prints JSON: median milliseconds, and the median of the ratios
of two neighbouring calls, which holds on a machine that has other work too.
"""

import argparse
import json
import statistics
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TypeVar

import numpy as np

from benchmarks.systems import quiet_stack
from winnow.client import RecommendationRequest, Watch, WinnowClient
from winnow.commands.gateway_calls import watches_of
from winnow.logs.interactions import read_interactions

Answer = TypeVar("Answer")

WATCH_COUNTS = (20, 50)
HISTORY_LENGTH = 100
USERS = 200
WARM_UP_USERS = 20
SEED = 1


def main() -> None:
    """Serve, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--releases", type=Path, required=True)
    parser.add_argument("--interactions", type=Path, required=True)
    arguments = parser.parse_args()
    histories = read_histories(arguments.interactions)
    with quiet_stack(arguments.releases) as stack, WinnowClient(stack.gateway_target, timeout_seconds=10) as winnow:
        print(json.dumps({str(count): measure(winnow, histories, count) for count in WATCH_COUNTS}, indent=1))


def read_histories(interactions: Path) -> list[list[Watch]]:
    """The latest watches of some users, in a fixed order."""
    log = read_interactions(interactions)
    users = np.random.default_rng(SEED).choice(log.user_ids, WARM_UP_USERS + USERS, replace=False)
    return [watches_of(log, user)[-HISTORY_LENGTH:] for user in users.tolist()]


def measure(winnow: WinnowClient, histories: list[list[Watch]], watch_count: int) -> dict[str, float]:
    """Median times of both calls and of their ratio, with the contributions of so many watches."""
    recommending, explaining = [], []
    for history in histories:
        seconds, answer = timed(partial(winnow.recommend, history))
        recommending.append(seconds)
        explain = partial(
            winnow.explain, RecommendationRequest(history), answer.items[-1].item_id, watch_count=watch_count
        )
        explaining.append(timed(explain)[0])
    recommending, explaining = recommending[WARM_UP_USERS:], explaining[WARM_UP_USERS:]
    ratios = [after / before for before, after in zip(recommending, explaining, strict=True)]
    return {
        "recommend_milliseconds": round(1000 * statistics.median(recommending), 2),
        "explain_milliseconds": round(1000 * statistics.median(explaining), 2),
        "explain_over_recommend": round(statistics.median(ratios), 2),
    }


def timed(call: Callable[[], Answer]) -> tuple[float, Answer]:
    """Return how many seconds a call took, and its answer."""
    started = time.perf_counter()
    answer = call()
    return time.perf_counter() - started, answer


if __name__ == "__main__":
    main()
