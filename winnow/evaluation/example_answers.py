"""A few answers of a release beside what its users watched next, as a section of the HTML report."""

import html
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from winnow.catalogue.items import ItemCatalogue
from winnow.evaluation.compare import CANDIDATE, CHAIN, PARTS, Comparison

EXAMPLE_COUNT = 3
WATCHES_SHOWN = 5
TITLE_LENGTH = 120


@dataclass(frozen=True, kw_only=True)
class Example:
    """The rows of one held-out watch: the last watches before it, oldest first, the watch itself and the answer."""

    last_watches: Sequence[int]
    earlier_watch_count: int
    """How many watches came before those."""
    target: int
    answer: Sequence[int]


def examples(part: str, comparison: Comparison) -> list[Example]:
    """Return answers to a few held-out watches of different users, spread evenly over the part.

    They are the chain's; where that was not measured, the candidate stage's. Empty where neither was.
    """
    by_name = {one.name: one for one in comparison.of_part(part)}
    answered = by_name.get(CHAIN, by_name.get(CANDIDATE))
    if answered is None:
        return []
    held_out = comparison.log.held_out(part)
    first_of_users = np.unique(held_out.users, return_index=True)[1]
    count = min(EXAMPLE_COUNT, len(first_of_users))
    chosen = first_of_users[np.linspace(0, len(first_of_users) - 1, count).astype(np.int64)]
    found = []
    for place in chosen.tolist():
        watched = held_out.histories[place].tolist()
        found.append(
            Example(
                last_watches=watched[-WATCHES_SHOWN:],
                earlier_watch_count=max(len(watched) - WATCHES_SHOWN, 0),
                target=int(held_out.targets[place]),
                answer=answered.answers.lists[place].tolist(),
            )
        )
    return found


def examples_section(comparison: Comparison) -> str:
    """Write HTML about users of the validation, or of the test where that alone was measured."""
    part = next((name for name in PARTS if comparison.of_part(name)), None)
    found = [] if part is None else examples(part, comparison)
    if not found:
        return ""
    items = ItemCatalogue(comparison.release.attributes(), comparison.release.vocabulary())
    sections = [_section(number, example, items) for number, example in enumerate(found, start=1)]
    return f"<h2>Example answers</h2><p>Users of the {part}. The next watch is in bold.</p>{''.join(sections)}"


def _section(number: int, example: Example, items: ItemCatalogue) -> str:
    earlier = f" ({example.earlier_watch_count:,} before them)" if example.earlier_watch_count else ""
    watched = "; ".join(_title(row, items) for row in example.last_watches)
    if example.target in example.answer:
        outcome = f"place {example.answer.index(example.target) + 1}"
    else:
        outcome = f"not among the first {len(example.answer)}"
    return (
        f"<h3>User {number}</h3><p>Last watches, oldest first{earlier}: {watched}</p>"
        f"<p>Next watch: <strong>{_title(example.target, items)}</strong>, {outcome}</p>"
        f"<ol>{_list(example, items)}</ol>"
    )


def _list(example: Example, items: ItemCatalogue) -> str:
    lines: Iterable[str] = (
        f"<strong>{_title(row, items)}</strong>" if row == example.target else _title(row, items)
        for row in example.answer
    )
    return "".join(f"<li>{line}</li>" for line in lines)


def _title(row: int, items: ItemCatalogue) -> str:
    title = items.title(row)
    return html.escape(title if len(title) <= TITLE_LENGTH else f"{title[:TITLE_LENGTH]}…")
