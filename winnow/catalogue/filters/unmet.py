"""Why one item does not match a filter."""

from winnow.catalogue.attributes import Attributes
from winnow.catalogue.filters.checker import read_filter
from winnow.catalogue.filters.compiler import compile_filter
from winnow.catalogue.filters.expression import And
from winnow.catalogue.filters.parser import CANONICAL_LIMITS


def unmet_conditions(canonical: str, attributes: Attributes, row: int) -> list[str]:
    """Return which of the conditions that a filter joins by AND are false for an item, in canonical form.

    The filter is in canonical form too. Empty where the item matches it. Raises FilterError where it does not fit.
    """
    schema = attributes.schema
    expression = read_filter(canonical, schema, CANONICAL_LIMITS)
    terms = expression.terms if isinstance(expression, And) else (expression,)
    item = Attributes.from_values(
        {name: [attributes[name][row]] for name in attributes}, {name: schema[name].type for name in attributes}, 1
    )
    return [str(term) for term in terms if not compile_filter(term, item).match_count]
