import pytest

from gateway.item_search import find_page, first_position
from gateway.served_catalogue import ServedCatalogue
from winnow.rpc.errors import InvalidRequestError


def titles(catalogue: ServedCatalogue, page_size: int, text: str) -> list[list[str]]:
    """All pages."""
    pages, token = [], ""
    while True:
        page = find_page(text, page_size, first_position(token, catalogue), catalogue)
        pages.append([catalogue.items.title(row) for row in page.rows])
        token = page.next_page_token
        if not token:
            return pages


def test_pages_together_hold_every_match_once_the_most_popular_first(catalogue: ServedCatalogue) -> None:
    matching = [f"Title {row}" for row in range(300) if "7" in str(row)]
    pages = titles(catalogue, 10, "7")
    assert [title for page in pages for title in page] == matching
    assert [len(page) for page in pages[:-1]] == [10] * (len(pages) - 1)


def test_a_last_page_that_is_full_is_the_last(catalogue: ServedCatalogue) -> None:
    assert titles(catalogue, 11, "title 29") == [["Title 29", *(f"Title 29{digit}" for digit in range(10))]]


def test_nothing_found_is_one_empty_page(catalogue: ServedCatalogue) -> None:
    assert titles(catalogue, 5, "no such title") == [[]]


def test_case_does_not_matter(catalogue: ServedCatalogue) -> None:
    assert titles(catalogue, 5, "tItLe 299") == [["Title 299"]]


@pytest.mark.parametrize(
    "token", ["x", ":", "{}:", "{}:-1", "{}:1x", "{}:300", "{}:99999999999999999999", "another:5", "{}:\u0663"]
)
def test_tokens_that_no_page_has_given(catalogue: ServedCatalogue, token: str) -> None:
    with pytest.raises(InvalidRequestError, match=r"^page_token: "):
        first_position(token.format(catalogue.release_id), catalogue)
