"""Texts and lists of texts by row: every distinct text is stored once, rows hold its number.

Shape legend: I items, D distinct texts, N texts of all lists together.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Mapping
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from winnow.catalogue.schema import AttributeType, AttributeValueError
from winnow.history import stretches

Arrays = dict[str, NDArray[Any]]


class TextDictionary:
    """The D distinct texts of a column in the order of their code points; a text's code is its place, from 0.

    Only what is looked up is read: the texts stay in the file's pages.
    """

    def __init__(self, utf8: NDArray[np.uint8], ends: NDArray[np.unsignedinteger[Any]]) -> None:
        """Take the texts one after the other, uint8, and the end of each of them [D].

        Raises ValueError where the two do not fit together.
        """
        if utf8.ndim != 1 or utf8.dtype != np.uint8:
            raise ValueError(f"texts are {utf8.dtype} {list(utf8.shape)}")
        check_ends(ends, len(utf8), "texts")
        self.utf8 = utf8
        self.ends = ends

    @classmethod
    def of(cls, texts: Iterable[str]) -> Self:
        """Build from distinct texts in any order. Raises ValueError for one that UTF-8 cannot express."""
        try:
            encoded = sorted(text.encode() for text in texts)
        except UnicodeEncodeError as error:
            raise ValueError(f"{error.object[:50]!r} is not Unicode text") from None
        lengths = np.array([len(text) for text in encoded], dtype=np.int64)
        return cls._of_lengths(np.frombuffer(b"".join(encoded), dtype=np.uint8), lengths)

    def __len__(self) -> int:
        return len(self.ends)

    def __getitem__(self, code: int) -> bytes:
        start = int(self.ends[code - 1]) if code else 0
        return self.utf8[start : int(self.ends[code])].tobytes()

    def text(self, code: int) -> str:
        """The text of a code. Raises ValueError where the file is damaged."""
        return self[code].decode()

    def codes(self) -> dict[str, int]:
        """The code of every text."""
        return {self.text(code): code for code in range(len(self))}

    def with_texts(self, texts: "TextDictionary") -> tuple["TextDictionary", NDArray[np.int64], NDArray[np.int64]]:
        """Add the texts of another dictionary. Return the new one, and in it the codes of the texts of both.

        The other one should be small: its texts are looked up one by one.
        """
        added = [texts[code] for code in range(len(texts))]
        places = np.array([bisect_left(self, text) for text in added], dtype=np.int64)
        known = np.array(
            [place < len(self) and self[place] == text for place, text in zip(places.tolist(), added, strict=True)],
            dtype=np.bool_,
        )
        new = [text for text, is_known in zip(added, known.tolist(), strict=True) if not is_known]
        new_places, new_lengths = places[~known], np.array(list(map(len, new)), dtype=np.int64)
        ends = self.ends.astype(np.int64)
        starts = np.append(0, ends)
        lengths = np.insert(np.diff(starts), new_places, new_lengths)
        utf8 = np.insert(self.utf8, np.repeat(starts[new_places], new_lengths), np.frombuffer(b"".join(new), np.uint8))
        own_codes = np.arange(len(self))
        own_codes += np.searchsorted(new_places, own_codes, side="right")
        # Each text comes after all texts of the other dictionary before it that were new.
        other_codes = places + np.cumsum(~known) - ~known
        return self._of_lengths(utf8, lengths), own_codes, other_codes

    def only(self, used: NDArray[np.bool_]) -> tuple["TextDictionary", NDArray[np.int64]]:
        """Drop the texts that are not used [D]. Return what is left, and the new code of each text that was kept."""
        if used.all():
            return self, np.arange(len(self))
        lengths = np.diff(np.append(0, self.ends.astype(np.int64)))
        return self._of_lengths(self.utf8[np.repeat(used, lengths)], lengths[used]), np.cumsum(used) - 1

    @classmethod
    def _of_lengths(cls, utf8: NDArray[np.uint8], lengths: NDArray[np.int64]) -> Self:
        ends = np.cumsum(lengths)
        return cls(utf8, ends.astype(smallest_unsigned(int(ends.max(initial=0)))))

    def code_at_or_after(self, text: str) -> int:
        """How many texts come before `text`: its own code, if it has one."""
        return bisect_left(self, text.encode())

    def code_after(self, text: str) -> int:
        """How many texts come before `text` or are equal to it."""
        return bisect_right(self, text.encode())

    def prefix_codes(self, prefix: str) -> tuple[int, int]:
        """First and last + 1 of the codes whose texts start with `prefix`, which is not empty."""
        encoded = prefix.encode()
        # No byte of UTF-8 is 255: the next byte is always one.
        following = encoded[:-1] + bytes([encoded[-1] + 1])
        return bisect_left(self, encoded), bisect_left(self, following)

    def suffix_codes(self, suffix: str) -> NDArray[np.intp]:
        """The codes whose texts end with `suffix`, ascending."""
        encoded = suffix.encode()
        found = []
        # In blocks, so that ends and positions stay in a core's cache.
        for block in range(0, len(self), 65_536):
            ends = self.ends[block : block + 65_536].astype(np.intp)
            starts = np.append(int(self.ends[block - 1]) if block else 0, ends[:-1])
            codes = np.flatnonzero(ends - starts >= len(encoded))
            for distance, byte in enumerate(reversed(encoded), start=1):
                codes = codes[self.utf8[ends[codes] - distance] == byte]
            found.append(codes + block)
        return np.concatenate(found) if found else np.empty(0, dtype=np.intp)


class TextColumn:
    """A text by row."""

    type: ClassVar = AttributeType.TEXT

    def __init__(self, codes: NDArray[np.unsignedinteger[Any]], dictionary: TextDictionary) -> None:
        """Take the code of each item's text, plus one, and 0 where it has none [I].

        Raises ValueError for a code that the dictionary does not have.
        """
        check_codes(codes, len(dictionary) + 1)
        self.codes_plus_one = codes
        self.dictionary = dictionary
        self.missing_count = len(codes) - int(np.count_nonzero(codes))
        self.distinct_count = len(dictionary)

    @classmethod
    def from_values(cls, values: Iterable[object]) -> Self:
        """Build from a text or None by row; an empty text is None. Raises ValueError that names the row."""
        texts = [_text(value, row) for row, value in enumerate(values)]
        dictionary = TextDictionary.of(set(texts) - {""})
        codes = {text: code + 1 for text, code in dictionary.codes().items()} | {"": 0}
        dtype = smallest_unsigned(len(dictionary))
        return cls(np.fromiter(map(codes.__getitem__, texts), dtype=dtype, count=len(texts)), dictionary)

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray[Any]]) -> Self:
        """Build from what `arrays` returned. Raises ValueError where it does not fit together, KeyError for a gap."""
        return cls(arrays["codes"], TextDictionary(arrays["utf8"], arrays["ends"]))

    def arrays(self) -> Arrays:
        """What has to be stored."""
        return {"codes": self.codes_plus_one, "utf8": self.dictionary.utf8, "ends": self.dictionary.ends}

    def replaced(self, item_count: int, rows: NDArray[np.int64], values: Self) -> Self:
        """Return the column of `item_count` items, at least as many as before, whose rows [N] have other values [N]."""
        dictionary, own_codes, other_codes = self.dictionary.with_texts(values.dictionary)
        codes = np.zeros(item_count, dtype=np.int64)
        codes[: len(self)] = np.append(0, own_codes + 1)[self.codes_plus_one]
        codes[rows] = np.append(0, other_codes + 1)[values.codes_plus_one]
        used = np.bincount(codes, minlength=len(dictionary) + 1)[1:] > 0
        dictionary, new_codes = dictionary.only(used)
        return type(self)(np.append(0, new_codes + 1)[codes].astype(smallest_unsigned(len(dictionary))), dictionary)

    def __len__(self) -> int:
        return len(self.codes_plus_one)

    def __getitem__(self, row: int) -> str | None:
        code = int(self.codes_plus_one[row])
        return self.dictionary.text(code - 1) if code else None


class TextListColumn:
    """A list of texts by row. A list without texts is a missing value, as in AIP-160."""

    type: ClassVar = AttributeType.LIST

    def __init__(
        self,
        *,
        codes: NDArray[np.unsignedinteger[Any]],
        ends: NDArray[np.unsignedinteger[Any]],
        dictionary: TextDictionary,
        rows_by_code: NDArray[np.unsignedinteger[Any]],
        rows_by_code_ends: NDArray[np.unsignedinteger[Any]],
    ) -> None:
        """Take the lists both ways: the codes of each row, and the rows of each code.

        `codes` [N] are the codes of all lists, one list after the other, and `ends` [I] the end of each list.
        `rows_by_code` [N] are the rows of all codes, one code after the other, and `rows_by_code_ends` [D] the end of
        each code's rows.
        Raises ValueError where they do not fit together.
        """
        check_codes(codes, len(dictionary))
        check_ends(ends, len(codes), "lists")
        check_codes(rows_by_code, len(ends))
        check_ends(rows_by_code_ends, len(rows_by_code), "rows of the texts")
        if len(rows_by_code) != len(codes) or len(rows_by_code_ends) != len(dictionary):
            raise ValueError("the lists and the rows of the texts do not fit together")
        self.codes = codes
        self.ends = ends
        self.dictionary = dictionary
        self.rows_by_code = rows_by_code
        self.rows_by_code_ends = rows_by_code_ends
        self.missing_count = len(ends) - int(np.count_nonzero(self.lengths(slice(0, len(ends)))))
        self.distinct_count = len(dictionary)

    @classmethod
    def from_values(cls, values: Iterable[object]) -> Self:
        """Build from a list of texts or None by row; empty and repeated texts are dropped.

        Raises ValueError that names the row.
        """
        lists = [_texts(value, row) for row, value in enumerate(values)]
        dictionary = TextDictionary.of({text for texts in lists for text in texts})
        code_of = dictionary.codes()
        lengths = np.fromiter(map(len, lists), dtype=np.int64, count=len(lists))
        codes = np.fromiter(
            (code_of[text] for texts in lists for text in texts), dtype=np.int64, count=int(lengths.sum())
        )
        return cls._of_lengths(codes, lengths, dictionary)

    @classmethod
    def _of_lengths(cls, codes: NDArray[np.int64], lengths: NDArray[np.int64], dictionary: TextDictionary) -> Self:
        """Take the codes of all lists, one list after the other, and the length of each list."""
        rows = np.repeat(np.arange(len(lengths), dtype=smallest_unsigned(max(len(lengths) - 1, 0))), lengths)
        ends_type = smallest_unsigned(len(codes))
        return cls(
            codes=codes.astype(smallest_unsigned(max(len(dictionary) - 1, 0))),
            ends=np.cumsum(lengths).astype(ends_type),
            dictionary=dictionary,
            rows_by_code=rows[np.argsort(codes, kind="stable")],
            rows_by_code_ends=np.cumsum(np.bincount(codes, minlength=len(dictionary))).astype(ends_type),
        )

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray[Any]]) -> Self:
        """Build from what `arrays` returned. Raises ValueError where it does not fit together, KeyError for a gap."""
        return cls(
            codes=arrays["codes"],
            ends=arrays["list_ends"],
            dictionary=TextDictionary(arrays["utf8"], arrays["ends"]),
            rows_by_code=arrays["rows"],
            rows_by_code_ends=arrays["rows_ends"],
        )

    def arrays(self) -> Arrays:
        """What has to be stored."""
        return {
            "codes": self.codes,
            "list_ends": self.ends,
            "utf8": self.dictionary.utf8,
            "ends": self.dictionary.ends,
            "rows": self.rows_by_code,
            "rows_ends": self.rows_by_code_ends,
        }

    def replaced(self, item_count: int, rows: NDArray[np.int64], values: Self) -> Self:
        """Return the column of `item_count` items, at least as many as before, whose rows [N] have other lists [N]."""
        dictionary, own_codes, other_codes = self.dictionary.with_texts(values.dictionary)
        codes = np.concatenate([own_codes[self.codes], other_codes[values.codes]])
        own_ends, other_ends = self.ends.astype(np.int64), values.ends.astype(np.int64)
        lengths = np.zeros(item_count, dtype=np.int64)
        lengths[: len(self)] = np.diff(own_ends, prepend=0)
        lengths[rows] = np.diff(other_ends, prepend=0)
        starts = np.zeros(item_count, dtype=np.int64)
        starts[: len(self)] = np.append(0, own_ends)[:-1]
        starts[rows] = len(self.codes) + np.append(0, other_ends)[:-1]
        codes = codes[stretches(starts, lengths)]
        dictionary, new_codes = dictionary.only(np.bincount(codes, minlength=len(dictionary)) > 0)
        return self._of_lengths(new_codes[codes], lengths, dictionary)

    def __len__(self) -> int:
        return len(self.ends)

    def __getitem__(self, row: int) -> list[str] | None:
        start = int(self.ends[row - 1]) if row else 0
        codes = self.codes[start : int(self.ends[row])].tolist()
        return [self.dictionary.text(code) for code in codes] or None

    def lengths(self, rows: slice) -> NDArray[np.unsignedinteger[Any]]:
        """How many texts each of some neighbouring rows has."""
        before = self.ends[rows.start - 1] if rows.start else 0
        return np.diff(self.ends[rows], prepend=self.ends.dtype.type(before))


def smallest_unsigned(largest: int) -> np.dtype[np.unsignedinteger[Any]]:
    """The narrowest unsigned integer type that holds `largest`."""
    return np.min_scalar_type(largest)


def check_codes(codes: NDArray[Any], count: int) -> None:
    """Raise ValueError unless these are unsigned integers in a row, all of them below `count`."""
    if codes.ndim != 1 or codes.dtype.kind != "u":
        raise ValueError(f"codes are {codes.dtype} {list(codes.shape)}")
    if len(codes) and int(codes.max()) >= count:
        raise ValueError(f"code {int(codes.max())} is not one of {count}")


def check_ends(ends: NDArray[Any], length: int, name: str) -> None:
    """Raise ValueError unless these are the ends of stretches of an array of that length."""
    if ends.ndim != 1 or ends.dtype.kind != "u":
        raise ValueError(f"the ends of the {name} are {ends.dtype} {list(ends.shape)}")
    if (int(ends[-1]) if len(ends) else 0) != length or bool((ends[1:] < ends[:-1]).any()):
        raise ValueError(f"the ends of the {name} do not fit what they divide")


def _text(value: object, row: int) -> str:
    if value is None:
        return ""
    if isinstance(value, str):
        return value
    # Ids and years are integers in some Parquet files.
    if isinstance(value, int | np.integer) and not isinstance(value, bool):
        return str(value)
    raise AttributeValueError(row, f"{value!r} is not a text")


def _texts(value: object, row: int) -> list[str]:
    if value is None:
        return []
    if isinstance(value, str) or not isinstance(value, Iterable):
        raise AttributeValueError(row, f"{value!r} is not a list of texts")
    return list(dict.fromkeys(text for text in (_text(part, row) for part in value) if text))
