"""Golden filters: one comparison of each attribute of a release with the rows it matched when the release was made.

A service that compiles one of them to other rows would answer with items that the caller has filtered out.
"""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np

from winnow.catalogue.attributes import Attributes
from winnow.catalogue.filters.compiler import CompiledFilter, compile_canonical, compile_filter
from winnow.catalogue.filters.expression import Comparison, Expression, Operator, Present, any_of, negation
from winnow.catalogue.text_columns import TextColumn, TextListColumn
from winnow.catalogue.value_columns import MISSING_TIMESTAMP, BooleanColumn, NumberColumn, TimestampColumn


class GoldenMismatchError(ValueError):
    """A golden request is answered differently from when the release was made."""


@dataclass(frozen=True, kw_only=True)
class GoldenFilter:
    """A filter in canonical form, how many rows it matches, and the SHA-256 of the bitmap of these."""

    canonical: str
    match_count: int
    sha256: str

    @classmethod
    def of(cls, canonical: str, compiled: CompiledFilter) -> Self:
        """What is to be kept of a compiled filter."""
        return cls(
            canonical=canonical,
            match_count=compiled.match_count,
            sha256=hashlib.sha256(compiled.bitmap.tobytes()).hexdigest(),
        )


def golden_filters(attributes: Attributes) -> list[GoldenFilter]:
    """Compare each attribute with a value in the middle of its own, and once more all of them together."""
    comparisons = list(_comparisons(attributes))
    together = [any_of([negation(comparisons[0]), *comparisons[1:]])] if comparisons else []
    return [
        GoldenFilter.of(str(expression), compile_filter(expression, attributes))
        for expression in (*comparisons, *together)
    ]


def check_filters(filters: Sequence[GoldenFilter], attributes: Attributes) -> None:
    """Raise GoldenMismatchError unless every filter matches the rows that it did when the release was made."""
    for golden in filters:
        try:
            compiled = compile_canonical(golden.canonical, attributes)
        except ValueError as error:
            raise GoldenMismatchError(f"filter {golden.canonical[:80]} cannot be read: {error}") from error
        if GoldenFilter.of(golden.canonical, compiled) != golden:
            raise GoldenMismatchError(
                f"filter {golden.canonical[:80]} matches other rows than when the release was made: "
                f"{compiled.match_count}, then {golden.match_count}"
            )


def _comparisons(attributes: Attributes) -> Iterator[Expression]:
    for name in attributes:
        match attributes[name]:
            case TextColumn(dictionary=dictionary, codes_plus_one=codes) if len(dictionary):
                commonest = int(np.bincount(codes[codes > 0]).argmax()) - 1
                yield Comparison(name, Operator.EQUAL, dictionary.text(commonest))
            case TextListColumn(dictionary=dictionary, codes=codes) if len(dictionary):
                yield Comparison(name, Operator.HAS, dictionary.text(int(np.bincount(codes).argmax())))
            case NumberColumn(values=values) as column if column.missing_count < len(values):
                yield Comparison(name, Operator.AT_LEAST, float(np.nanmedian(values)))
            case TimestampColumn(values=values) as column if column.missing_count < len(values):
                there = np.flatnonzero(values != MISSING_TIMESTAMP)
                moment = column[int(there[np.argsort(values[there])[len(there) // 2]])]
                if moment is not None:
                    yield Comparison(name, Operator.AT_LEAST, moment)
            case BooleanColumn():
                yield Comparison(name, Operator.EQUAL, value=True)
            case _:
                yield Present(name)
