"""Text and a release's schema -> a checked expression."""

import difflib
import re
from collections.abc import Callable, Mapping, Set

from lark import Token, Tree

from winnow.catalogue.filters.error import FilterError, quoted
from winnow.catalogue.filters.expression import (
    Comparison,
    Expression,
    Operator,
    Prefix,
    Present,
    Suffix,
    Value,
    all_of,
    any_of,
    negation,
)
from winnow.catalogue.filters.parser import REQUEST_LIMITS, FilterLimits, offset_of, parse
from winnow.catalogue.literals import parse_boolean, parse_number, parse_timestamp
from winnow.catalogue.schema import MAX_NAME_CHARACTERS, Attribute, AttributeType, Schema

_ORDER = frozenset({Operator.LESS, Operator.AT_MOST, Operator.GREATER, Operator.AT_LEAST})
_EQUALITY = frozenset({Operator.EQUAL, Operator.NOT_EQUAL, Operator.HAS})
_OPERATORS: Mapping[AttributeType, Set[Operator]] = {
    AttributeType.TEXT: _EQUALITY | _ORDER,
    AttributeType.LIST: {Operator.HAS},
    AttributeType.NUMBER: _EQUALITY | _ORDER,
    AttributeType.TIMESTAMP: _EQUALITY | _ORDER,
    AttributeType.BOOLEAN: _EQUALITY,
}
_READERS: Mapping[AttributeType, Callable[[str], Value]] = {
    AttributeType.NUMBER: parse_number,
    AttributeType.TIMESTAMP: parse_timestamp,
    AttributeType.BOOLEAN: parse_boolean,
}
_EXPECTED_VALUES = {
    AttributeType.NUMBER: "a number such as 1990, -4.5 or 1e6",
    AttributeType.TIMESTAMP: 'an RFC 3339 timestamp or a date such as "2012-04-21T11:30:00Z" or "2012-04-21"',
    AttributeType.BOOLEAN: "true or false",
}
_SPECIAL = re.compile(r"\\(.)|\*", re.DOTALL)
_ESCAPABLE = "\\\"'*"
# What an unescaped * is while the other escapes are resolved: no filter has it, since a lone surrogate is refused.
_WILDCARD = "\ud800"


def read_filter(text: str, schema: Schema, limits: FilterLimits = REQUEST_LIMITS) -> Expression:
    """Parse a filter and check it against the attributes of a release.

    The canonical form of a filter, which is `str` of what this returns, is read with CANONICAL_LIMITS. Raises
    FilterError for anything that does not fit: nothing else is ever raised, whatever the text.
    """
    return _Checker(schema, limits).expression(parse(text, limits))


class _Checker:
    def __init__(self, schema: Schema, limits: FilterLimits) -> None:
        self._schema = schema
        self._limits = limits
        self._comparisons = 0

    def expression(self, node: Tree[Token] | Token) -> Expression:
        match node:
            case Tree(data="start" | "expression" | "sequence", children=children):
                return all_of(map(self.expression, children))
            case Tree(data="factor", children=children):
                return any_of(map(self.expression, children))
            case Tree(data="negated", children=[child]):
                return negation(self.expression(child))
            case Tree(data="restriction", children=[Token() as name, Token() as operator, argument]):
                return self._restriction(self._attribute(name), operator, argument)
        raise AssertionError(f"the grammar has a rule that is not read: {node}")

    def _restriction(self, attribute: Attribute, operator: Token, argument: Tree[Token] | Token) -> Expression:
        """Apply the comparison to each value of the argument: a:(x OR y) is (a:x OR a:y)."""

        def restrict(child: Tree[Token] | Token) -> Expression:
            return self._restriction(attribute, operator, child)

        match argument:
            case Token():
                return self._comparison(attribute, operator, argument)
            case Tree(data="value_expression" | "value_sequence", children=children):
                return all_of(map(restrict, children))
            case Tree(data="value_factor", children=children):
                return any_of(map(restrict, children))
            case Tree(data="negated_value", children=[child]):
                return negation(restrict(child))
        raise AssertionError(f"the grammar has a rule that is not read: {argument}")

    def _attribute(self, token: Token) -> Attribute:
        name = _unescaped(token).replace(_WILDCARD, "*")
        attribute = self._schema.get(name)
        if attribute is None:
            close = difflib.get_close_matches(name[:MAX_NAME_CHARACTERS], self._schema, n=1)
            known = ", ".join(dict.fromkeys([*close, *sorted(self._schema)]))
            expected = f"one of {known[:200]}" if known else "no filter: the release has no attributes"
            raise FilterError(f"there is no attribute {quoted(name)}", offset=offset_of(token), expected=expected)
        return attribute

    def _comparison(self, attribute: Attribute, operator_token: Token, token: Token) -> Expression:
        self._comparisons += 1
        if self._comparisons > self._limits.comparisons:
            raise FilterError(
                f"there are more than {self._limits.comparisons} comparisons",
                offset=offset_of(token),
                expected=f"at most {self._limits.comparisons}",
            )
        operator = Operator(operator_token)
        text = _unescaped(token)
        if text == _WILDCARD and operator in (Operator.EQUAL, Operator.HAS):
            return Present(attribute.name)
        if operator not in _OPERATORS[attribute.type]:
            raise FilterError(
                f"{operator} cannot compare {attribute.name}, which is a {attribute.type}",
                offset=offset_of(operator_token),
                expected=" ".join(other for other in Operator if other in _OPERATORS[attribute.type]),
            )
        if operator is Operator.HAS and attribute.type is not AttributeType.LIST:
            operator = Operator.EQUAL
        if attribute.type in (AttributeType.TEXT, AttributeType.LIST):
            return Comparison(attribute.name, operator, _text_value(text, operator, token))
        try:
            value = _READERS[attribute.type](text.replace(_WILDCARD, "*"))
        except ValueError as error:
            expected = _EXPECTED_VALUES[attribute.type]
            if text == "null":
                expected += f" (NOT {attribute.name}:* finds what has no value)"
            raise FilterError(str(error), offset=offset_of(token), expected=expected) from None
        if isinstance(value, bool) and operator is Operator.NOT_EQUAL:
            operator, value = Operator.EQUAL, not value
        return Comparison(attribute.name, operator, value)


def _text_value(text: str, operator: Operator, token: Token) -> Value:
    if _WILDCARD not in text:
        return text
    if operator not in _EQUALITY:
        raise FilterError(
            f"{operator} cannot compare with a pattern", offset=offset_of(token), expected=r"\* for the character *"
        )
    if len(text) > 1 and text.count(_WILDCARD) == 1:
        if text.endswith(_WILDCARD):
            return Prefix(text[:-1])
        if text.startswith(_WILDCARD):
            return Suffix(text[1:])
    raise FilterError(
        f"{quoted(token)} is not a pattern",
        offset=offset_of(token),
        expected=r"one * at the beginning or the end of a text, or \* for the character *",
    )


def _unescaped(token: Token) -> str:
    """The text of a token, where _WILDCARD stands for a * that no backslash escapes."""
    if token.type != "STRING":
        return token.replace("*", _WILDCARD)

    def resolve(match: re.Match[str]) -> str:
        escaped: str | None = match[1]
        if escaped is None:
            return _WILDCARD
        if escaped not in _ESCAPABLE:
            raise FilterError(
                f"{quoted(match[0])} is not an escape",
                offset=offset_of(token) + 1 + match.start(),
                expected=r"""\\ \" \' or \*""",
            )
        return escaped

    return _SPECIAL.sub(resolve, token[1:-1])
