"""Text -> parse tree, by the grammar in grammar.lark. The checker gives names and values their meaning."""

from dataclasses import dataclass

from lark import Lark, Token, Tree, UnexpectedCharacters, UnexpectedToken

from winnow.catalogue.filters.error import FilterError, quoted

END = "$END"
# What may come next, for messages, in this order. A STRING is a value or an attribute, a MINUS is a NOT.
_MEANINGS = {
    "COMPARATOR": "an operator (= != < <= > >= :)",
    "BARE": "a value",
    "NAME": "an attribute",
    "_LPAR": "'('",
    "_NOT": "NOT",
    "_AND": "AND",
    "_OR": "OR",
    "_RPAR": "')'",
    END: "the end of the filter",
}

_PARSER = Lark.open("grammar.lark", rel_to=__file__, parser="lalr", maybe_placeholders=False)


@dataclass(frozen=True, kw_only=True)
class FilterLimits:
    """How large a filter may be."""

    characters: int
    depth: int
    """Of nested parentheses."""
    comparisons: int
    """Values that attributes are compared with: genres:(Comedy OR Drama) has two."""


REQUEST_LIMITS = FilterLimits(characters=2_000, depth=20, comparisons=100)
"""For what a caller writes."""
CANONICAL_LIMITS = FilterLimits(characters=65_536, depth=41, comparisons=100)
"""For the canonical form of any filter within REQUEST_LIMITS.

It writes an attribute beside each value, quotes values, and puts every OR inside of an AND in parentheses.
"""


def parse(text: str, limits: FilterLimits = REQUEST_LIMITS) -> Tree[Token]:
    """Parse a filter; tokens have the offsets of their characters. Raises FilterError beyond the first two limits."""
    _check_characters(text, limits.characters)
    parser = _PARSER.parse_interactive(text)
    depth = 0
    previous: Token | None = None
    try:
        for token in parser.iter_parse():
            depth += (token.type == "_LPAR") - (token.type == "_RPAR")
            if depth > limits.depth:
                raise FilterError(
                    f"parentheses are nested {depth} deep", offset=offset_of(token), expected=f"at most {limits.depth}"
                )
            previous = token
        tree: Tree[Token] = parser.feed_eof()  # type: ignore[no-untyped-call]
    except UnexpectedCharacters as error:
        accepted: set[str] = parser.accepts()  # type: ignore[no-untyped-call]
        raise _unexpected_character(text, error, accepted) from None
    except UnexpectedToken as error:
        raise _unexpected_token(text, error, previous) from None
    return tree


def offset_of(token: Token) -> int:
    """Where a token begins, counted in characters from 0."""
    return token.start_pos or 0


def _check_characters(text: str, limit: int) -> None:
    if len(text) > limit:
        raise FilterError(f"the filter has {len(text)} characters", offset=limit, expected=f"at most {limit}")
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise FilterError(
            f"{quoted(text[error.start])} is a lone surrogate", offset=error.start, expected="Unicode text"
        ) from None


def _unexpected_character(text: str, error: UnexpectedCharacters, accepted: set[str]) -> FilterError:
    offset = error.pos_in_stream or 0
    character = text[offset]
    if character in "\"'":
        reason = f"the quotation mark {character} is not closed"
        return FilterError(reason, offset=offset, expected=f"another {character}")
    return _unexpected(quoted(character), offset, accepted, previous=None)


def _unexpected_token(text: str, error: UnexpectedToken, previous: Token | None) -> FilterError:
    if error.token.type == END:
        return _unexpected("end of the filter", len(text), set(error.expected), previous)
    return _unexpected(quoted(error.token), offset_of(error.token), set(error.expected), previous)


def _unexpected(found: str, offset: int, accepted: set[str], previous: Token | None) -> FilterError:
    if accepted == {"COMPARATOR"} and previous is not None:
        # The name was meant as something else: a keyword, or a part of the value before it.
        expected = f"{_MEANINGS['COMPARATOR']}, or quotation marks around a value with spaces"
        if previous.upper() in ("AND", "OR", "NOT"):
            expected = f"{previous.upper()} in capitals"
        reason = f"{quoted(previous)} is not followed by an operator"
        return FilterError(reason, offset=offset_of(previous), expected=expected)
    meanings = [meaning for name, meaning in _MEANINGS.items() if name in accepted]
    listed = " or ".join(filter(None, [", ".join(meanings[:-1]), *meanings[-1:]]))
    return FilterError(f"unexpected {found}", offset=offset, expected=listed)
