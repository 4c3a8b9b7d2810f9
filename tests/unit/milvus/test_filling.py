"""A collection is taken as it is where it holds its release, and filled again where it does not."""

import re
from pathlib import Path
from typing import Any

import pytest

from winnow.milvus.connection import MilvusAddress
from winnow.milvus.filling import Filling
from winnow.milvus.record import RECORD_PROPERTY, VECTOR_FIELD, CollectionRecord, collection_name
from winnow.release.reader import Release, current_release_id, open_release


class Collection:
    """The client of a Milvus with one collection, which says what it is told to say."""

    def __init__(self, record: str | None, count: int, width: int) -> None:
        self.is_there = True
        self.count = count
        self.description = {
            "properties": {} if record is None else {RECORD_PROPERTY: record},
            "fields": [{"name": VECTOR_FIELD, "params": {"dim": width}}],
        }

    def has_collection(self, _name: str) -> bool:
        return self.is_there

    def describe_collection(self, _name: str) -> dict[str, Any]:
        return self.description

    def load_collection(self, _name: str) -> None:
        pass

    def query(self, _name: str, **_options: Any) -> list[dict[str, int]]:
        return [{"count(*)": self.count}]

    def drop_collection(self, _name: str) -> None:
        self.is_there = False


@pytest.fixture
def release(releases: Path) -> Release:
    return open_release(releases / current_release_id(releases), frozenset())


def record_of(release: Release) -> CollectionRecord:
    manifest = release.manifest
    return CollectionRecord(
        release_id=release.release_id,
        row_count=manifest.item_count - manifest.retired_item_count,
        width=manifest.candidate_network.hidden_dim,
        list_count=64,
        probe_count=8,
        recall_at_200=1,
        attributes=(),
    )


def looked_at(release: Release, client: Collection) -> tuple[CollectionRecord | None, list[str]]:
    said: list[str] = []
    filling = Filling(
        release=release,
        address=MilvusAddress(uri="http://127.0.0.1:1"),
        least_recall=0.9,
        timeout_seconds=1,
        report=said.append,
    )
    return filling._filled_before(client, collection_name(release.release_id)), said


def test_one_that_holds_its_release_is_taken_as_it_is(release: Release) -> None:
    record = record_of(release)
    client = Collection(record.model_dump_json(), record.row_count, record.width)
    found, said = looked_at(release, client)
    assert found == record
    assert client.is_there
    assert said == [f"{collection_name(release.release_id)} is there already"]


@pytest.mark.parametrize(
    ("change", "lost", "wider", "problem"),
    [
        (None, 0, 0, "was not filled to the end"),
        ({}, 5, 0, r"holds \d+ items, not \d+"),
        ({}, 0, 1, "holds vectors of width"),
        ({"row_count": 1}, 0, 0, "holds 1 items of"),
        ({"release_id": "another"}, 0, 0, "items of another, not"),
        ({"width": 0}, 0, 0, "its property winnow.record cannot be read"),
    ],
)
def test_one_that_does_not_is_dropped_and_said_to_be_filled_again(
    release: Release, change: dict[str, object] | None, lost: int, wider: int, problem: str
) -> None:
    """Or every further publication would fail until somebody drops it by hand."""
    record = record_of(release)
    text = None if change is None else record.model_copy(update=change).model_dump_json()
    client = Collection(text, record.row_count - lost, record.width + wider)
    found, said = looked_at(release, client)
    assert found is None
    assert not client.is_there
    [line] = said
    assert line.startswith(f"it is filled again: {collection_name(release.release_id)}")
    assert re.search(problem, line)
