"""Ranks by the baselines that take seconds and that a trained release has to be better than."""

import time
from collections.abc import Mapping

from rich.console import Console

from winnow.evaluation.baselines import BASELINES, TooLargeError
from winnow.evaluation.rank_figures import Ranks
from winnow.evaluation.recommender_figures import ask
from winnow.evaluation.recommenders import Recommender
from winnow.logs.split import LogSplit

# Popularity, which takes no time at all, is measured with the stages.
RIVALS = ("succession-knn", "ease")


def learn_rivals(split: LogSplit, item_count: int, console: Console) -> dict[str, Recommender]:
    """Return the baselines, which learn from the training part.

    One that does not fit the catalogue is left out, and the console is told.
    """
    found: dict[str, Recommender] = {}
    for name in RIVALS:
        began = time.monotonic()
        try:
            found[name] = BASELINES[name](split.training, item_count)
        except TooLargeError as error:
            console.print(f"{name} is left out: {error}", soft_wrap=True)
        else:
            console.print(f"{name}: learned in {time.monotonic() - began:.0f} s", soft_wrap=True)
    return found


def rival_ranks(rivals: Mapping[str, Recommender], split: LogSplit, item_count: int) -> dict[str, dict[str, Ranks]]:
    """Return the ranks of the held-out watches, by baseline and part."""
    return {
        name: {part: ask(recommender, held_out, item_count).ranks for part, held_out in split.held_out.items()}
        for name, recommender in rivals.items()
    }
