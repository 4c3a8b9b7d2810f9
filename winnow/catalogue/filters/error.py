"""What is wrong with a filter, and where."""


class FilterError(ValueError):
    """A filter cannot be used. The message has the position, counted in characters from 1, and what was expected."""

    def __init__(self, reason: str, *, offset: int, expected: str) -> None:
        """`offset` is where the offending part begins, counted in characters from 0."""
        super().__init__(f"character {offset + 1}: {reason}; expected {expected}")
        self.reason = reason
        self.offset = offset
        self.expected = expected


def quoted(text: str, limit: int = 40) -> str:
    """A part of a filter for a message: cut short, and printable whatever it holds."""
    return repr(str(text) if len(text) <= limit else text[: limit - 3] + "...")
