"""The catalogue over gRPC: items by id, items by title, what filters can compare, and facts about the release."""

import asyncio
from collections.abc import Sequence
from typing import Any, TypeAlias

import grpc

from gateway.item_search import ItemSearch, first_position
from gateway.release_messages import write_release_facts
from gateway.releases import ServedReleases
from gateway.requests import RequestReader
from gateway.served_catalogue import ServedCatalogue
from gateway.settings import GatewaySettings
from winnow.serving.metrics import Metrics
from winnow.serving.server import remaining_seconds
from winnow.v1 import catalogue_pb2, catalogue_pb2_grpc

Context: TypeAlias = "grpc.aio.ServicerContext[Any, Any]"


class CatalogueService(catalogue_pb2_grpc.CatalogueServiceServicer):
    """Implements winnow.v1.CatalogueService from the current release."""

    def __init__(
        self, releases: ServedReleases, reader: RequestReader, settings: GatewaySettings, metrics: Metrics
    ) -> None:
        self._releases = releases
        self._reader = reader
        self._settings = settings
        self._search = ItemSearch(settings, metrics)

    async def close(self) -> None:
        """End searches."""
        await self._search.close()

    async def BatchGetItems(
        self, message: catalogue_pb2.BatchGetItemsRequest, context: Context
    ) -> catalogue_pb2.BatchGetItemsResponse:
        """Return titles and further columns of the given items."""
        catalogue = self._releases.current.catalogue
        item_ids = self._reader.look_up(message.item_ids)
        rows, unknown_count = catalogue.vocabulary.rows(item_ids)
        unknown = [item_id for item_id in item_ids if item_id not in catalogue.vocabulary] if unknown_count else ()
        return catalogue_pb2.BatchGetItemsResponse(
            # Off the event loop: a thousand items take milliseconds, and may have to be read from disk.
            items=await asyncio.to_thread(_items, catalogue, rows.tolist()),
            unknown_item_ids=unknown,
            release_id=catalogue.release_id,
        )

    async def SearchItems(
        self, message: catalogue_pb2.SearchItemsRequest, context: Context
    ) -> catalogue_pb2.SearchItemsResponse:
        """Find items by a part of their title."""
        catalogue = self._releases.current.catalogue
        page_size = self._reader.search(message.title_contains, message.page_size)
        start = first_position(message.page_token, catalogue)
        deadline = asyncio.get_running_loop().time() + remaining_seconds(context, self._settings)
        page = await self._search.find_page(message.title_contains, page_size, start, catalogue, deadline)
        return catalogue_pb2.SearchItemsResponse(
            items=await asyncio.to_thread(_items, catalogue, page.rows),
            next_page_token=page.next_page_token,
            release_id=catalogue.release_id,
        )

    async def GetReleaseSchema(
        self, message: catalogue_pb2.GetReleaseSchemaRequest, context: Context
    ) -> catalogue_pb2.GetReleaseSchemaResponse:
        """List the attributes that filters can compare."""
        catalogue = self._releases.current.catalogue
        item_count = len(catalogue.vocabulary)
        return catalogue_pb2.GetReleaseSchemaResponse(
            attributes=[
                catalogue_pb2.Attribute(
                    name=attribute.name,
                    type=catalogue_pb2.AttributeType.Value(f"ATTRIBUTE_TYPE_{attribute.type.name}"),
                    item_count=item_count - attribute.missing_count,
                    distinct_count=attribute.distinct_count,
                )
                for attribute in catalogue.schema.values()
            ],
            item_count=item_count,
            release_id=catalogue.release_id,
        )

    async def GetRelease(
        self, message: catalogue_pb2.GetReleaseRequest, context: Context
    ) -> catalogue_pb2.GetReleaseResponse:
        """Describe the current release."""
        return write_release_facts(self._releases.current.manifest)


def _items(catalogue: ServedCatalogue, rows: Sequence[int]) -> list[catalogue_pb2.Item]:
    item_ids = catalogue.vocabulary.item_ids(rows)
    return [
        catalogue_pb2.Item(item_id=item_id, title=item.title, attributes=item.attributes)
        for item_id, item in zip(item_ids, map(catalogue.items.__getitem__, rows), strict=True)
    ]
