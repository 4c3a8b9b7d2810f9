"""Ranks by the baselines that take seconds and that a trained release has to be better than."""

import time
from collections.abc import Mapping

from rich.console import Console

from winnow.evaluation.baselines import BASELINES, TooLargeError
from winnow.evaluation.rank_figures import Ranks
from winnow.evaluation.recommender_figures import ask
from winnow.logs.split import LogSplit

# Popularity, which takes no time at all, is measured with the stages.
RIVALS = ("succession-knn", "ease")


def rival_ranks(split: LogSplit, item_count: int, console: Console) -> Mapping[str, Mapping[str, Ranks]]:
    """Return the ranks of the held-out watches of each part by each baseline, by baseline and part.

    A baseline that does not fit the catalogue is left out, and the console is told.
    """
    found: dict[str, dict[str, Ranks]] = {}
    for name in RIVALS:
        began = time.monotonic()
        try:
            recommender = BASELINES[name](split.training, item_count)
        except TooLargeError as error:
            console.print(f"{name} is left out: {error}", soft_wrap=True)
            continue
        found[name] = {part: ask(recommender, held_out, item_count).ranks for part, held_out in split.held_out.items()}
        console.print(f"{name}: measured in {time.monotonic() - began:.0f} s", soft_wrap=True)
    return found
