"""Text of strangers in a terminal."""


def printable(text: str) -> str:
    """Return the text with escapes in place of control characters: a terminal would obey them.

    Event ids and item ids are what whoever may write events has sent.
    """
    if text.isprintable():
        return text
    return "".join(one if one.isprintable() else one.encode("unicode_escape").decode() for one in text)
