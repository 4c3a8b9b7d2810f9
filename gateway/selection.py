"""From scored candidates to what is answered: sort, keep to caps, diversify, pin, cut."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from gateway.answers import NO_MOVES, Move
from gateway.arrangement import arrange
from gateway.caps import CapCounts
from gateway.diversity import MarginalRelevance, relevance_of_ranks
from gateway.ranking import Ranked
from gateway.selection_rules import SelectionRules
from gateway.served_catalogue import ServedCatalogue
from gateway.sources.gathered import Gathered
from winnow.history import Rows


@dataclass(frozen=True, kw_only=True, eq=False, slots=True)
class Selected:
    """What is answered, first to last."""

    rows: Rows
    scores: NDArray[np.float32]
    moves: Mapping[int, Move] = field(default_factory=lambda: NO_MOVES)
    """Why items stand elsewhere than ranking had put them, by their place in the answer, from 0."""


def select(
    gathered: Gathered, ranked: Ranked, count: int, rules: SelectionRules | None, catalogue: ServedCatalogue
) -> Selected:
    """Return the best rows with their scores: by ranking, or in candidate order where ranking gave no scores.

    `ranked` has the scores of the first candidates, then those of the pinned rows.
    """
    if rules is not None:
        return _select_by_rules(gathered, ranked, count, rules, catalogue)
    if ranked.scores is None:
        return Selected(rows=gathered.rows[:count], scores=gathered.scores[:count])
    chosen = best(ranked.scores, count)
    return Selected(rows=gathered.rows[chosen], scores=ranked.scores[chosen])


def enough_for_caps(candidates: Rows, count: int, rules: SelectionRules, catalogue: ServedCatalogue) -> int:
    """Return how many of the first candidates fill an answer of `count` items under the caps; all where they do not.

    They fill it in their own order; in any other order too, if there is one cap, of an attribute with one value.
    """
    if not rules.caps:
        return min(count, len(candidates))
    caps = _cap_counts(rules, candidates, catalogue)
    items = arrange(ranked_count=len(candidates), count=count, pinned={}, caps=caps, relevance=None).items
    return len(candidates) if len(items) < count else max(items) + 1


def best(scores: NDArray[np.float32], count: int) -> NDArray[np.intp]:
    """Return the positions of the `count` highest scores, descending; equal scores keep their order."""
    negative = -scores
    order = negative.argsort()
    # Sorting without regard to the order of equal scores takes half the time, and there are hardly ever any.
    head = negative[order[: count + 1]]
    if (head[1:] == head[:-1]).any():
        order = negative.argsort(kind="stable")
    return order[:count]


def _select_by_rules(
    gathered: Gathered, ranked: Ranked, count: int, rules: SelectionRules, catalogue: ServedCatalogue
) -> Selected:
    pinned_scores = np.zeros(len(rules.pinned), dtype=np.float32)
    if ranked.scores is None:
        order = np.arange(len(gathered.rows))
        scores = gathered.scores
    else:
        candidate_count = len(ranked.scores) - len(rules.pinned)
        pinned_scores = ranked.scores[candidate_count:]
        order = best(ranked.scores[:candidate_count], candidate_count)
        scores = ranked.scores[order]
    # The items of an arrangement: the candidates in the order of ranking, then what is pinned besides.
    item_of_row = {row: item for item, row in enumerate(gathered.rows[order].tolist())}
    is_other = np.array([row not in item_of_row for row in rules.pinned.tolist()], dtype=np.bool_)
    others = rules.pinned[is_other]
    item_of_row |= {row: len(order) + number for number, row in enumerate(others.tolist())}
    rows = np.concatenate([gathered.rows[order], others])
    relevance = None
    if rules.diversity:
        relevance = MarginalRelevance(
            catalogue.similarity_vectors[rows], relevance_of_ranks(len(rows)), rules.diversity
        )
    arrangement = arrange(
        ranked_count=len(order),
        count=count,
        pinned={place: item_of_row[row] for place, row in zip(rules.places, rules.pinned.tolist(), strict=True)},
        caps=_cap_counts(rules, rows, catalogue),
        relevance=relevance,
    )
    items = np.array(arrangement.items, dtype=np.intp)
    return Selected(
        rows=rows[items],
        scores=np.concatenate([scores, pinned_scores[is_other]])[items],
        moves=arrangement.moves,
    )


def _cap_counts(rules: SelectionRules, rows: Rows, catalogue: ServedCatalogue) -> CapCounts:
    return CapCounts([(catalogue.attributes[name], max_count) for name, max_count in rules.caps], rows)
