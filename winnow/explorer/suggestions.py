"""Filters to try, made from the attributes of the items on the page."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from winnow.client import AttributeType, ReleaseSchema
from winnow.explorer.failures import Failure
from winnow.explorer.gateways import Titles
from winnow.explorer.inputs import Inputs

MAX_SUGGESTIONS = 4


@dataclass(frozen=True, slots=True)
class Suggestion:
    """An input to try."""

    field: str
    """`filter` or `caps`."""
    value: str


def suggested_filters(
    schema: ReleaseSchema | Failure, titles: Titles, item_ids: Sequence[str], inputs: Inputs
) -> list[Suggestion]:
    """Return conditions that some of the items meet, and caps that would change the list; not what is asked already."""
    if isinstance(schema, Failure):
        return []
    found = []
    attributes = [titles.by_id[item_id].attributes for item_id in item_ids if item_id in titles.by_id]
    for attribute in schema.attributes:
        values = [of_item[attribute.name] for of_item in attributes if attribute.name in of_item]
        if not values:
            continue
        if attribute.type is AttributeType.LIST:
            common = Counter(text for listed in values for text in listed.split(", "))
            (text, count), *_ = common.most_common(1)
            if '"' not in text and "\\" not in text:
                found.append(Suggestion("filter", f'{attribute.name}:"{text}"'))
            if count > 2:
                found.append(Suggestion("caps", f"{attribute.name}=2"))
        elif attribute.type is AttributeType.NUMBER:
            middle = sorted(values, key=_number)[len(values) // 2]
            found.append(Suggestion("filter", f"{attribute.name} >= {middle}"))
    asked = (Suggestion("filter", inputs.filter), Suggestion("caps", inputs.caps))
    return [suggestion for suggestion in found if suggestion not in asked][:MAX_SUGGESTIONS]


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return 0.0
