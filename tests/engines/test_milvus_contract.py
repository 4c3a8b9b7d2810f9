"""The contract of every index, tests/unit/index/test_contract.py, with Milvus behind it."""

import asyncio
import itertools
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
import torch
from pymilvus import DataType, MilvusClient

from tests.engines.milvus_server import MilvusServer
from tests.unit.index import test_contract as contract
from winnow.catalogue.filters.compiler import CompiledFilter
from winnow.history import NO_ROWS, Rows
from winnow.index.selection import Selection
from winnow.milvus.collection import count
from winnow.milvus.connection import MilvusAddress
from winnow.milvus.expressions import EngineFilter
from winnow.milvus.index import MilvusIndex
from winnow.milvus.record import ROW_FIELD, VECTOR_FIELD, CollectionRecord, collection_name
from winnow.queries import Candidates, Restriction, RetrievalQuery

pytestmark = [pytest.mark.engines, pytest.mark.timeout(600)]

RELEASES = itertools.count()


class BlockingIndex:
    """Milvus as a CandidateIndex. Its filters are sets of rows, which are asked as such and not by attributes."""

    exact = False
    full_scan_count = 0

    def __init__(self, client: MilvusClient, address: MilvusAddress, items_IH: torch.Tensor, retired: Rows) -> None:
        """Fill a collection."""
        release_id = f"20260101T000000Z-{next(RELEASES):012x}"
        name, width = collection_name(release_id), items_IH.shape[1]
        rows = np.setdiff1d(np.arange(len(items_IH)), retired)
        schema = client.create_schema(auto_id=False, enable_dynamic_field=False)
        schema.add_field(ROW_FIELD, DataType.INT64, is_primary=True)
        schema.add_field(VECTOR_FIELD, DataType.FLOAT_VECTOR, dim=width)
        parameters = client.prepare_index_params()
        parameters.add_index(VECTOR_FIELD, index_type="FLAT", metric_type="IP")
        client.create_collection(name, schema=schema, index_params=parameters, num_shards=1)
        entities = [{ROW_FIELD: int(row), VECTOR_FIELD: items_IH[int(row)].numpy()} for row in rows]
        if entities:
            client.insert(name, entities)
        assert count(client, name, "") == len(rows)
        self._record = CollectionRecord(
            release_id=release_id,
            row_count=len(rows),
            width=width,
            list_count=1,
            probe_count=1,
            recall_at_200=1,
            attributes=(),
        )
        self._address, self._item_count, self._retired = address, len(items_IH), retired

    def search(self, user_BH: torch.Tensor, query: RetrievalQuery) -> Candidates:
        return asyncio.run(self._search(user_BH, query))

    def select(self, compiled: CompiledFilter) -> Selection:
        return Selection(compiled=compiled, rows=compiled.rows())

    def search_selected(self, user_BH: torch.Tensor, query: RetrievalQuery, selection: Selection) -> Candidates:
        rows = selection.compiled.rows().tolist()
        filters = {"f": EngineFilter(f"{ROW_FIELD} in {rows}")}
        restrictions = dict.fromkeys(range(len(query)), Restriction(filter="f"))
        return asyncio.run(self._search(user_BH, replace(query, restrictions=restrictions), filters))

    def search_rows(self, user_BH: torch.Tensor, query: RetrievalQuery, rows: Rows) -> Candidates:
        restrictions = dict.fromkeys(range(len(query)), Restriction(allowed=rows))
        return asyncio.run(self._search(user_BH, replace(query, restrictions=restrictions)))

    async def _search(
        self, user_BH: torch.Tensor, query: RetrievalQuery, filters: dict[str, EngineFilter] | None = None
    ) -> Candidates:
        async with self._address.channel() as channel:
            index = MilvusIndex(channel, self._address, self._record, self._item_count, self._retired)
            deadline = asyncio.get_running_loop().time() + 30
            return await index.search(user_BH.numpy(), query, (filters or {}).__getitem__, deadline)


@pytest.fixture(scope="module")
def client(milvus: MilvusServer) -> Iterator[MilvusClient]:
    with MilvusAddress(uri=milvus.uri).client(60) as opened:
        yield opened
        for name in opened.list_collections():
            if name.startswith(collection_name("20260101T000000Z-0000")):
                opened.drop_collection(name)


@pytest.fixture
def make(client: MilvusClient, address: MilvusAddress) -> contract.MakeIndex:
    return lambda items: BlockingIndex(client, address, items, NO_ROWS)


@pytest.mark.parametrize(("item_count", "query_count"), [(1, 1), (7, 0), (100, 5)])
def test_results_equal_a_full_sort(make: contract.MakeIndex, item_count: int, query_count: int) -> None:
    contract.test_results_equal_a_full_sort(make, item_count, query_count)


@pytest.mark.parametrize("item_count", [1, 1000])
def test_lists_are_sorted_scored_and_as_long_as_asked(make: contract.MakeIndex, item_count: int) -> None:
    contract.test_lists_are_sorted_scored_and_as_long_as_asked(make, item_count, 5)


def test_what_is_excluded_makes_room_for_the_next_best(make: contract.MakeIndex) -> None:
    contract.test_what_is_excluded_makes_room_for_the_next_best(make)


def test_everything_excluded_gives_an_empty_list(make: contract.MakeIndex) -> None:
    contract.test_everything_excluded_gives_an_empty_list(make)


def test_an_answer_does_not_depend_on_the_other_queries(make: contract.MakeIndex) -> None:
    contract.test_an_answer_does_not_depend_on_the_other_queries(make)


@pytest.mark.parametrize("item_count", [7, 1000])
def test_restricted_lists_hold_the_best_of_what_is_possible(make: contract.MakeIndex, item_count: int) -> None:
    contract.test_restricted_lists_hold_the_best_of_what_is_possible(make, item_count)


def test_restricted_results_equal_a_full_sort(make: contract.MakeIndex) -> None:
    contract.test_restricted_results_equal_a_full_sort(make)


def test_a_restricted_answer_does_not_depend_on_the_other_queries(make: contract.MakeIndex) -> None:
    contract.test_a_restricted_answer_does_not_depend_on_the_other_queries(make)


@pytest.mark.parametrize(("item_count", "share"), [(7, 0.3), (1000, 0.3), (100, 0.95)])
def test_retired_items_are_never_found_and_make_room_for_others(
    client: MilvusClient, address: MilvusAddress, item_count: int, share: float
) -> None:
    contract.test_retired_items_are_never_found_and_make_room_for_others(
        lambda items, retired: BlockingIndex(client, address, items, retired), item_count, share
    )
