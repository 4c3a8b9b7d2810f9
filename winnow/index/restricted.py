"""Search in a batch some of whose queries may return some rows only.

Those with the same filter and the same list of allowed rows are searched together.

Shape legend: B queries, H width of a vector.
"""

from collections.abc import Callable

import numpy as np
from torch import Tensor

from winnow.history import RaggedRows
from winnow.index.protocol import CandidateIndex
from winnow.index.selection import Selection
from winnow.queries import Candidates, Restriction, RetrievalQuery

SelectionOf = Callable[[str], Selection]
"""What the index searches for a filter, given in canonical form."""

UNRESTRICTED = Restriction()


def search(index: CandidateIndex, user_BH: Tensor, query: RetrievalQuery, selection_of: SelectionOf) -> Candidates:
    """Return the best candidates of B queries as CandidateIndex.search does, within their restrictions."""
    if not query.restrictions:
        return index.search(user_BH, query)
    parts: list[Candidates | None] = [None] * len(query)
    groups: dict[tuple[str, bytes | None], list[int]] = {}
    for position in range(len(query)):
        restriction = query.restrictions.get(position, UNRESTRICTED)
        allowed = None if restriction.allowed is None else restriction.allowed.tobytes()
        groups.setdefault((restriction.filter, allowed), []).append(position)
    for (canonical, allowed), positions in groups.items():
        together, users = _queries(user_BH, query, positions)
        if allowed is not None:
            # A list is scanned whole: whatever a filter leaves of it is exact.
            rows = np.unique(np.frombuffer(allowed, dtype=np.int32))
            if canonical:
                rows = rows[selection_of(canonical).compiled.matches(rows)]
            found = index.search_rows(users, together, rows)
        elif canonical:
            found = index.search_selected(users, together, selection_of(canonical))
        else:
            found = index.search(users, together)
        for position, part in zip(positions, found.split([1] * len(positions)), strict=True):
            parts[position] = part
    return Candidates.concatenate([part for part in parts if part is not None])


def _queries(user_BH: Tensor, query: RetrievalQuery, positions: list[int]) -> tuple[RetrievalQuery, Tensor]:
    """Some of the queries, without restrictions and histories, and their user vectors."""
    if len(positions) == len(query):
        return RetrievalQuery.without_histories(query.counts, query.exclusions), user_BH
    exclusions = RaggedRows.from_lists([query.exclusions[position] for position in positions])
    return RetrievalQuery.without_histories(query.counts[positions], exclusions), user_BH[positions]
