"""CPU time of selection for one request, with and without caps, diversity and pinned items.

    python -m benchmarks.selection --release releases --attribute genres

Candidates and scores are random. It prints milliseconds, the best of five rounds, and takes a few seconds.
"""

import argparse
import time
from pathlib import Path

import numpy as np

from gateway.answers import CandidateSource
from gateway.ranking import Ranked
from gateway.selection import select
from gateway.selection_rules import SelectionRules
from gateway.served_catalogue import ServedCatalogue
from gateway.sources.gathered import Gathered
from winnow.release.reader import open_current_release

# Candidates and items of an answer: the defaults, and the most that a gateway can be set to.
SIZES = ((200, 20), (1000, 100))
ROUNDS, REPETITIONS = 5, 50
PINNED_ITEMS = 5


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--release", type=Path, required=True, help="a directory of releases")
    parser.add_argument("--attribute", required=True, help="the attribute to cap")
    arguments = parser.parse_args()
    catalogue = ServedCatalogue.load(open_current_release(arguments.release))
    caps = [(arguments.attribute, 3)]
    pinned = np.arange(PINNED_ITEMS, dtype=np.int32)
    rules = {
        "sort and cut": None,
        "a cap": SelectionRules(caps=caps),
        "diversity": SelectionRules(diversity=0.3),
        f"a cap, diversity, {PINNED_ITEMS} pinned": SelectionRules(
            caps=caps, diversity=0.3, pinned=pinned, places=range(PINNED_ITEMS)
        ),
    }
    for name, asked in rules.items():
        costs = [milliseconds(catalogue, candidate_count, count, asked) for candidate_count, count in SIZES]
        print(f"{name:30}" + "".join(f"{cost:10.3f}" for cost in costs))


def milliseconds(catalogue: ServedCatalogue, candidate_count: int, count: int, rules: SelectionRules | None) -> float:
    """Return the CPU time of one selection."""
    rng = np.random.default_rng(1)
    rows = rng.permutation(len(catalogue.vocabulary))[:candidate_count].astype(np.int32)
    scores = rng.random(len(rows) + (0 if rules is None else len(rules.pinned)), dtype=np.float32)
    gathered = Gathered(rows=rows, scores=scores[: len(rows)], source=CandidateSource.NETWORK)
    ranked = Ranked(scores=scores)
    rounds = []
    for _ in range(ROUNDS):
        started = time.process_time()
        for _ in range(REPETITIONS):
            select(gathered, ranked, count, rules, catalogue)
        rounds.append((time.process_time() - started) / REPETITIONS)
    return 1000 * min(rounds)


if __name__ == "__main__":
    main()
