"""Limits on what a request may carry. Lengths are looked at first, and no request costs more than one bounded pass."""

from collections.abc import Sequence

from winnow.catalogue.vocabulary import MAX_ITEM_ID_BYTES
from winnow.rpc.errors import MAX_VIOLATIONS, InvalidRequestError
from winnow.rpc.violations import Violation

# The first second of the year 10000, as in training. Milliseconds since 1970 lie beyond it, from April 1978 on.
TIME_LIMIT_SECONDS = 253_402_300_800


class Violations:
    """What is wrong with a request; what goes beyond MAX_VIOLATIONS is not looked for."""

    def __init__(self) -> None:
        self._found: list[Violation] = []

    def add(self, field: str, description: str) -> bool:
        """Note what is wrong with a field and return whether to look further."""
        if len(self._found) < MAX_VIOLATIONS:
            self._found.append(Violation(field, description))
        return len(self._found) < MAX_VIOLATIONS

    def refuse(self) -> None:
        """Raise InvalidRequestError if anything is wrong."""
        if self._found:
            raise InvalidRequestError(self._found)

    def check_ids(self, field: str, ids: Sequence[str], max_count: int) -> Sequence[str]:
        """Return the ids, read once; none of them where there are too many."""
        if not ids:
            return ()
        if len(ids) > max_count:
            self.add(field, f"has {len(ids)} ids: at most {max_count}")
            return ()
        # Every pass over a repeated field makes its strings anew.
        ids = list(ids)
        self.check_each_id(field + "[{}]", ids)
        return ids

    def check_each_id(self, field_of_position: str, ids: Sequence[str]) -> None:
        """Check the length of every id; `field_of_position` names the field of the id at a position."""
        # UTF-8 has at most 4 bytes a character: nearly every request ends here, without a loop over its ids.
        lengths = list(map(len, ids))
        if not lengths or (min(lengths) and max(lengths) <= MAX_ITEM_ID_BYTES // 4):
            return
        for position, item_id in enumerate(ids):
            size = len(item_id.encode())
            if 1 <= size <= MAX_ITEM_ID_BYTES:
                continue
            wrong = f"is {size} bytes long: at most {MAX_ITEM_ID_BYTES}" if size else "is empty"
            if not self.add(field_of_position.format(position), wrong):
                return

    def check_weights(self, field_of_position: str, weights: Sequence[float | None]) -> None:
        """Check that every weight that is given is a number of at least 0."""
        for position, weight in enumerate(weights):
            if (
                weight is not None
                and not 0 <= weight < float("inf")
                and not self.add(
                    field_of_position.format(position), f"is {weight:g}: a finite number of at least 0 is needed"
                )
            ):
                return

    def check_times(self, field_of_position: str, times: Sequence[int | None]) -> None:
        """Check that every time that is given is in seconds since 1970."""
        for position, time in enumerate(times):
            if (
                time is not None
                and not -TIME_LIMIT_SECONDS <= time < TIME_LIMIT_SECONDS
                and not self.add(
                    field_of_position.format(position),
                    f"is {time}: seconds since 1970, before the year 10000, are needed",
                )
            ):
                return

    def check_count(self, field: str, count: int, default: int, maximum: int) -> int:
        """Return how many are meant: 0 is the default."""
        if not 0 <= count <= maximum:
            self.add(field, f"is {count}: at least 0, for {default}, and at most {maximum}")
        return count or default

    def check_page_size(self, field: str, size: int, default: int, maximum: int) -> int:
        """Return the size of a page: 0 is the default, and what is too large is cut, since further pages follow."""
        if size < 0:
            self.add(field, f"is {size}: it cannot be negative")
        return min(size or default, maximum)
