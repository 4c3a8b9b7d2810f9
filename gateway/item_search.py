"""Search by title, a page at a time."""

from dataclasses import dataclass

from gateway.checks import Violations
from gateway.served_catalogue import ServedCatalogue


@dataclass(frozen=True, slots=True)
class Page:
    """Rows of the items found, and the token of the page after it; empty on the last one."""

    rows: list[int]
    next_page_token: str


def first_position(page_token: str, catalogue: ServedCatalogue) -> int:
    """Return where in the order of popularity the page begins. Raises InvalidRequestError for a token of no use."""
    if not page_token:
        return 0
    violations = Violations()
    release_id, _, position = page_token.rpartition(":")
    if release_id != catalogue.release_id:
        violations.add("page_token", f"is not of release {catalogue.release_id}, which is served now: search again")
    elif not (position.isascii() and position.isdigit() and int(position[:12]) < len(catalogue.popular_rows)):
        violations.add("page_token", "is not one that a page has given")
    violations.refuse()
    return int(position)


def find_page(title_contains: str, page_size: int, start: int, catalogue: ServedCatalogue) -> Page:
    """Return the most popular items from position `start` on whose title contains the text, ignoring case."""
    order = catalogue.popular_rows[start:]
    found = catalogue.items.positions_by_title(title_contains, order, page_size + 1)
    rows = [int(order[position]) for position in found[:page_size]]
    more = len(found) > page_size
    return Page(rows, f"{catalogue.release_id}:{start + found[page_size]}" if more else "")
