"""Look-ups of any length and searches page by page."""

import pytest

from tests.unit.client.fake_gateway import FakeGateway
from winnow.client import Attribute, AttributeType, Item, ReleaseSchema, WinnowClient
from winnow.v1 import catalogue_pb2


@pytest.fixture(autouse=True)
def catalogue(gateway: FakeGateway) -> None:
    gateway.items = [
        catalogue_pb2.Item(item_id=f"item-{number}", title=f"Title {number}", attributes={"year": "1995"})
        for number in range(2_500)
    ]


def test_items_are_found_by_id(client: WinnowClient) -> None:
    found = client.items(["item-7", "no such item", "item-3", "item-7"])
    assert found.by_id == {
        "item-7": Item(item_id="item-7", title="Title 7", attributes={"year": "1995"}),
        "item-3": Item(item_id="item-3", title="Title 3", attributes={"year": "1995"}),
    }
    assert list(found.by_id) == ["item-7", "item-3"]
    assert found.unknown_item_ids == ("no such item",)
    assert found.release_ids == ("release-1",)


def test_more_ids_than_one_call_takes_are_split(client: WinnowClient, gateway: FakeGateway) -> None:
    asked = [*(f"item-{number}" for number in range(2_500)), "no such item"]
    found = client.items(asked)
    assert list(found.by_id) == asked[:-1]
    assert found.unknown_item_ids == ("no such item",)
    assert [len(request.item_ids) for request in gateway.requests] == [1_000, 1_000, 501]


def test_a_look_up_of_several_calls_tells_a_change_of_release(client: WinnowClient, gateway: FakeGateway) -> None:
    gateway.release_ids = ["release-1", "release-2"]
    assert client.items(f"item-{number}" for number in range(2_500)).release_ids == ("release-1", "release-2")


def test_nothing_asked_is_nothing_found(client: WinnowClient, gateway: FakeGateway) -> None:
    found = client.items([])
    assert (found.by_id, found.unknown_item_ids, found.release_ids) == ({}, (), ())
    assert gateway.requests == []


def test_a_search_is_one_page_and_says_how_to_get_the_next(client: WinnowClient) -> None:
    first = client.search("title 24", count=2)
    assert [item.title for item in first.items] == ["Title 24", "Title 240"]
    assert first.release_id == "release-1"
    assert first.next_page_token is not None
    second = client.search("title 24", count=100, page_token=first.next_page_token)
    assert [item.title for item in second.items][:2] == ["Title 241", "Title 242"]


def test_the_last_page_has_no_next_one(client: WinnowClient) -> None:
    assert client.search("title 2499").next_page_token is None
    nothing = client.search("no such title")
    assert (nothing.items, nothing.next_page_token) == ((), None)


def test_all_pages_are_found_and_fetched_only_when_asked_for(client: WinnowClient, gateway: FakeGateway) -> None:
    pages = client.search_pages("title 2")
    assert gateway.requests == []
    assert len(next(pages).items) == 100
    assert len(gateway.requests) == 1
    rest = list(pages)
    # 2, 20 to 29, 200 to 299, 2000 to 2499
    assert sum(len(page.items) for page in rest) == 1 + 10 + 100 + 500 - 100
    assert rest[-1].next_page_token is None
    assert len(gateway.requests) == 7


def test_the_schema_of_a_release(client: WinnowClient) -> None:
    assert client.schema() == ReleaseSchema(
        attributes=(
            Attribute(name="year", type=AttributeType.NUMBER, item_count=7, distinct_count=None),
            Attribute(name="genres", type=AttributeType.LIST, item_count=8, distinct_count=0),
        ),
        item_count=9,
        release_id="release-1",
    )
