"""A checked expression and the attributes of a release -> the rows that match, as a packed bitmap.

Shape legend: I items.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import reduce
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from winnow.catalogue.attributes import Attributes, Column
from winnow.catalogue.filters.checker import read_filter
from winnow.catalogue.filters.expression import (
    And,
    Comparison,
    Expression,
    Not,
    Operator,
    Or,
    Prefix,
    Present,
    Suffix,
)
from winnow.catalogue.filters.parser import CANONICAL_LIMITS
from winnow.catalogue.literals import microseconds
from winnow.catalogue.text_columns import TextColumn, TextDictionary, TextListColumn
from winnow.catalogue.value_columns import (
    FALSE,
    MISSING_BOOLEAN,
    MISSING_TIMESTAMP,
    TRUE,
    BooleanColumn,
    NumberColumn,
    TimestampColumn,
)
from winnow.history import Rows, stretches

Bitmap: TypeAlias = NDArray[np.uint8]
Mask: TypeAlias = NDArray[np.bool_]
Select: TypeAlias = Callable[[slice], Mask]

# Rows compared at once: what that takes beside the columns stays in a core's second-level cache.
BLOCK_ROWS = 65_536
_COMPARE: Mapping[Operator, Callable[..., Mask]] = {
    Operator.EQUAL: np.equal,
    Operator.LESS: np.less,
    Operator.AT_MOST: np.less_equal,
    Operator.GREATER: np.greater,
    Operator.AT_LEAST: np.greater_equal,
}


@dataclass(frozen=True, kw_only=True, eq=False)
class CompiledFilter:
    """The rows of a release that match a filter.

    `bitmap`, uint8 [(I + 7) // 8], has row r in bit r % 8 of byte r // 8, as FAISS reads it; bits beyond I are 0.
    """

    bitmap: Bitmap
    item_count: int
    match_count: int

    @property
    def size_bytes(self) -> int:
        """The memory that it takes."""
        return self.bitmap.nbytes

    def matches(self, rows: Rows) -> Mask:
        """Whether each of some rows matches, bool, in their order. Rows lie in [0, I)."""
        hits: Mask = (self.bitmap[rows >> 3] >> (rows & 7).astype(np.uint8)) & 1 != 0
        return hits

    def mask(self) -> Mask:
        """Whether each row matches, bool [I]."""
        return np.unpackbits(self.bitmap, count=self.item_count, bitorder="little").view(np.bool_)

    def rows(self) -> Rows:
        """The rows that match, int32, ascending."""
        return np.flatnonzero(self.mask()).astype(np.int32)

    def without(self, rows: Rows) -> "CompiledFilter":
        """The same without some rows, of which none stands twice."""
        if not len(rows):
            return self
        left_out = np.zeros(self.item_count, dtype=np.bool_)
        left_out[rows] = True
        bitmap = self.bitmap & ~np.packbits(left_out, bitorder="little")
        match_count = int(np.bitwise_count(bitmap).sum(dtype=np.int64))
        return CompiledFilter(bitmap=bitmap, item_count=self.item_count, match_count=match_count)


def compile_canonical(canonical: str, attributes: Attributes) -> CompiledFilter:
    """Find the rows that match a filter in canonical form.

    Raises FilterError where it does not fit these attributes.
    """
    return compile_filter(read_filter(canonical, attributes.schema, CANONICAL_LIMITS), attributes)


def compile_filter(expression: Expression, attributes: Attributes) -> CompiledFilter:
    """Find the rows that match an expression which was checked against the schema of these attributes.

    Beside the mapped columns it takes I / 8 bytes for each level of the expression, and I bytes for one list at a time.
    """
    bitmap = _Compiler(attributes).bitmap(expression)
    unused_bits = -attributes.item_count % 8
    if unused_bits:
        bitmap[-1] &= 0xFF >> unused_bits
    return CompiledFilter(
        bitmap=bitmap,
        item_count=attributes.item_count,
        match_count=int(np.bitwise_count(bitmap).sum(dtype=np.int64)),
    )


class _Compiler:
    def __init__(self, attributes: Attributes) -> None:
        self._attributes = attributes
        self._item_count = attributes.item_count

    def bitmap(self, expression: Expression) -> Bitmap:
        """A new bitmap; what its bits beyond I are does not matter."""
        match expression:
            case And(terms=()):
                return np.full((self._item_count + 7) // 8, 0xFF, dtype=np.uint8)
            case And(terms=terms):
                return reduce(_and_in_place, map(self.bitmap, terms))
            case Or(terms=terms):
                return reduce(_or_in_place, self._alternatives(terms))
            case Not(term=term):
                return _not_in_place(self.bitmap(term))
            case Present(attribute=name):
                return self._packed(_present(self._attributes[name]))
            case Comparison(attribute=name, operator=Operator.NOT_EQUAL, value=value):
                equal = self.bitmap(Comparison(name, Operator.EQUAL, value))
                return _and_in_place(_not_in_place(equal), self.bitmap(Present(name)))
            case Comparison(attribute=name):
                return self._any(self._attributes[name], [expression])

    def _alternatives(self, terms: Iterable[Expression]) -> Iterator[Bitmap]:
        """Bitmaps of all terms; what compares one attribute with several texts is one pass over it."""
        of_one_attribute: defaultdict[str, list[Comparison]] = defaultdict(list)
        for term in terms:
            if isinstance(term, Comparison) and term.operator is not Operator.NOT_EQUAL:
                of_one_attribute[term.attribute].append(term)
            else:
                yield self.bitmap(term)
        for name, comparisons in of_one_attribute.items():
            yield self._any(self._attributes[name], comparisons)

    def _any(self, column: Column, comparisons: Sequence[Comparison]) -> Bitmap:
        match column:
            case TextColumn():
                return self._packed(_with_text(column, comparisons))
            case TextListColumn():
                mask = np.zeros(self._item_count, dtype=np.bool_)
                for comparison in comparisons:
                    rows = _rows_with(column, comparison)
                    for start in range(0, len(rows), BLOCK_ROWS):
                        mask[rows[start : start + BLOCK_ROWS]] = True
                return np.packbits(mask, bitorder="little")
            case _:
                selects = [_with_value(column, comparison) for comparison in comparisons]
                return self._packed(lambda rows: reduce(np.bitwise_or, (select(rows) for select in selects)))

    def _packed(self, select: Select) -> Bitmap:
        packed = np.empty((self._item_count + 7) // 8, dtype=np.uint8)
        for start in range(0, self._item_count, BLOCK_ROWS):
            stop = min(start + BLOCK_ROWS, self._item_count)
            packed[start // 8 : (stop + 7) // 8] = np.packbits(select(slice(start, stop)), bitorder="little")
        return packed


def _present(column: Column) -> Select:
    match column:
        case TextColumn():
            return lambda rows: column.codes_plus_one[rows] != 0
        case TextListColumn():
            return lambda rows: column.lengths(rows) != 0
        case NumberColumn():
            return lambda rows: ~np.isnan(column.values[rows])
        case TimestampColumn():
            return lambda rows: column.values[rows] != MISSING_TIMESTAMP
        case BooleanColumn():
            return lambda rows: column.values[rows] != MISSING_BOOLEAN


def _with_value(column: NumberColumn | TimestampColumn | BooleanColumn, comparison: Comparison) -> Select:
    match column, comparison.value:
        case NumberColumn(), float() as number:
            compare = _COMPARE[comparison.operator]
            return lambda rows: compare(column.values[rows], number)
        case TimestampColumn(), datetime() as moment:
            compare, at = _COMPARE[comparison.operator], microseconds(moment)
            if comparison.operator in (Operator.LESS, Operator.AT_MOST):
                # The missing value is before every moment.
                return lambda rows: compare(column.values[rows], at) & (column.values[rows] != MISSING_TIMESTAMP)
            return lambda rows: compare(column.values[rows], at)
        case BooleanColumn(), bool() as flag:
            return lambda rows: column.values[rows] == (TRUE if flag else FALSE)
    raise AssertionError(f"{comparison} was not checked against the schema")


def _with_text(column: TextColumn, comparisons: Sequence[Comparison]) -> Select:
    """Select by the codes of the texts: by a range of them, or by a table of all."""
    codes, dictionary = column.codes_plus_one, column.dictionary
    if len(comparisons) == 1 and not isinstance(comparisons[0].value, Suffix):
        wanted = _codes(dictionary, comparisons[0])
        first, count = wanted.start + 1, len(wanted)
        if count == 1:
            return lambda rows: codes[rows] == first
        # One unsigned comparison for both ends: what is below `first`, the missing too, wraps to the top.
        return lambda rows: codes[rows] - codes.dtype.type(min(first, len(dictionary))) < count
    is_wanted = np.zeros(len(dictionary) + 1, dtype=np.bool_)
    for comparison in comparisons:
        if isinstance(comparison.value, Suffix):
            is_wanted[1:][dictionary.suffix_codes(comparison.value.text)] = True
        else:
            wanted = _codes(dictionary, comparison)
            is_wanted[1:][wanted.start : wanted.stop] = True
    return lambda rows: is_wanted[codes[rows]]


def _rows_with(column: TextListColumn, comparison: Comparison) -> NDArray[np.integer[Any]]:
    """The rows whose lists have a text, or one that fits the pattern; some stand twice."""
    ends = column.rows_by_code_ends
    if isinstance(comparison.value, Suffix):
        codes = column.dictionary.suffix_codes(comparison.value.text)
        all_ends = ends.astype(np.int64)
        lengths = np.diff(all_ends, prepend=0)[codes]
        return column.rows_by_code[stretches(all_ends[codes] - lengths, lengths)]
    wanted = _codes(column.dictionary, comparison)
    start = int(ends[wanted.start - 1]) if wanted.start else 0
    return column.rows_by_code[start : int(ends[wanted.stop - 1]) if wanted else start]


def _codes(dictionary: TextDictionary, comparison: Comparison) -> range:
    """The codes whose texts compare so with a text, or start with it: neighbours, since texts are sorted."""
    value = comparison.value
    if isinstance(value, Prefix):
        return range(*dictionary.prefix_codes(value.text))
    match comparison.operator, value:
        case Operator.EQUAL | Operator.HAS, str():
            return range(dictionary.code_at_or_after(value), dictionary.code_after(value))
        case Operator.LESS, str():
            return range(dictionary.code_at_or_after(value))
        case Operator.AT_MOST, str():
            return range(dictionary.code_after(value))
        case Operator.GREATER, str():
            return range(dictionary.code_after(value), len(dictionary))
        case Operator.AT_LEAST, str():
            return range(dictionary.code_at_or_after(value), len(dictionary))
    raise AssertionError(f"{comparison} was not checked against the schema")


def _and_in_place(left: Bitmap, right: Bitmap) -> Bitmap:
    left &= right
    return left


def _or_in_place(left: Bitmap, right: Bitmap) -> Bitmap:
    left |= right
    return left


def _not_in_place(bitmap: Bitmap) -> Bitmap:
    return np.invert(bitmap, out=bitmap)
