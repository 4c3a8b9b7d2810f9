"""The filters of requests on one release: read once at the edge, and compiled to check what may be answered."""

from collections import OrderedDict

import numpy as np
from numpy.typing import NDArray

from gateway.checks import Violations
from winnow.catalogue.attributes import Attributes
from winnow.catalogue.filters.checker import read_filter
from winnow.catalogue.filters.compiler import CompiledFilter, compile_canonical
from winnow.catalogue.filters.error import FilterError
from winnow.catalogue.filters.unmet import unmet_conditions
from winnow.history import NO_ROWS, Rows
from winnow.queries import Restriction
from winnow.serving.filters import CompiledFilters

# Texts whose canonical form is remembered; at most 2,000 characters each.
REMEMBERED_TEXTS = 1_000
# Up to this many rows are sorted by popularity; of more, the first ones in the order of popularity are soon found.
SORTED_ROWS = 10_000
BLOCK_ROWS = 65_536


class RequestFilters:
    """Reads filters, and says which rows they permit. All methods are called on the event loop."""

    def __init__(self, attributes: Attributes, cache_bytes: int, retired: Rows = NO_ROWS) -> None:
        """No filter and no list permits what is `retired`."""
        self._attributes = attributes
        self._schema = attributes.schema
        self._canonical: OrderedDict[str, str] = OrderedDict()
        self._retired = retired
        self._compiled = CompiledFilters(
            lambda canonical: compile_canonical(canonical, attributes).without(retired), cache_bytes
        )

    def read(self, text: str, violations: Violations) -> str:
        """Return the canonical form of a filter, empty where there is none; note what is wrong with it."""
        if not text:
            return ""
        canonical = self._canonical.get(text)
        if canonical is not None:
            self._canonical.move_to_end(text)
            return canonical
        try:
            canonical = str(read_filter(text, self._schema))
        except FilterError as error:
            violations.add("filter", str(error))
            return ""
        self._canonical[text] = canonical
        if len(self._canonical) > REMEMBERED_TEXTS:
            self._canonical.popitem(last=False)
        return canonical

    async def permitted(self, restriction: Restriction) -> "PermittedRows | None":
        """Return the rows that a restriction permits; None where it permits all. Raises OverloadedError."""
        if not restriction:
            return None
        compiled = await self._compiled.get(restriction.filter) if restriction.filter else None
        if restriction.allowed is None:
            return PermittedRows(compiled)
        rows = np.unique(restriction.allowed)
        if len(self._retired):
            rows = rows[~np.isin(rows, self._retired)]
        return PermittedRows(compiled, rows if compiled is None else rows[compiled.matches(rows)])

    def unmet_conditions(self, canonical: str, row: int) -> list[str]:
        """Return which conditions of a filter, empty where there is none, an item does not meet."""
        return unmet_conditions(canonical, self._attributes, row) if canonical else []


class PermittedRows:
    """The rows that may be in an answer: those that match a filter, or those of a list."""

    def __init__(self, compiled: CompiledFilter | None, rows: Rows | None = None) -> None:
        """`rows`, ascending, are all of them where they are given."""
        self._compiled = compiled
        self._rows = rows

    def includes(self, rows: Rows) -> NDArray[np.bool_]:
        """Whether each row is one of them."""
        if self._rows is not None:
            return np.isin(rows, self._rows)
        if self._compiled is not None:
            return self._compiled.matches(rows)
        return np.ones(len(rows), dtype=np.bool_)

    def most_popular(self, count: int, popularity: NDArray[np.float32], popular_rows: Rows) -> Rows:
        """Return the `count` most popular of them, the most popular first."""
        rows = self._rows
        if rows is None and self._compiled is not None and self._compiled.match_count <= SORTED_ROWS:
            rows = self._compiled.rows()
        if rows is not None:
            return rows[np.argsort(-popularity[rows], kind="stable")][:count]
        found: list[Rows] = []
        for start in range(0, len(popular_rows), BLOCK_ROWS):
            block = popular_rows[start : start + BLOCK_ROWS]
            found.append(block[self.includes(block)])
            if sum(map(len, found)) >= count:
                break
        return np.concatenate(found)[:count]
