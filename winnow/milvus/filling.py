"""Filling a collection with a release: verified against exact search before anybody may search it.

Shape legend: B sample users, H width of a vector.
"""

import asyncio
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass

import grpc
import numpy as np
import torch
from numpy.typing import NDArray
from pymilvus import MilvusClient, MilvusException

from winnow.catalogue.filters.checker import read_filter
from winnow.catalogue.filters.compiler import compile_canonical
from winnow.catalogue.filters.parser import CANONICAL_LIMITS
from winnow.history import RaggedRows, WatchHistories
from winnow.index.choose import RECALL_DEPTH, recall_of_each, smallest
from winnow.index.exact import ExactIndex
from winnow.milvus.collection import count, open_collection
from winnow.milvus.connection import EngineError, MilvusAddress
from winnow.milvus.expressions import translate
from winnow.milvus.index import NO_FILTER, MilvusIndex
from winnow.milvus.items import ROWS_AT_ONCE, attribute_fields, collection_schema, entities, inserts
from winnow.milvus.record import (
    RECORD_PROPERTY,
    VECTOR_FIELD,
    CollectionRecord,
    collection_name,
)
from winnow.networks.candidate import DeepCandidateGenerationModel
from winnow.queries import RetrievalQuery
from winnow.release.manifest import (
    ATTRIBUTES_FILE,
    CANDIDATE_ADDED_FILE,
    CANDIDATE_NETWORK_FILE,
    GOLDEN_FILE,
    RETIRED_FILE,
)
from winnow.release.models.loader import load_candidate_network
from winnow.release.reader import Release
from winnow.rpc.errors import ServiceError

FILES = frozenset({CANDIDATE_NETWORK_FILE, CANDIDATE_ADDED_FILE, ATTRIBUTES_FILE, GOLDEN_FILE, RETIRED_FILE})
"""What is read of a release."""

# Milvus indexes a segment by itself, and makes segments of about so many bytes; a segment has so many lists at most.
SEGMENT_BYTES = 512 * 2**20
MAX_LISTS = 16_384
# Golden histories are few: of each, so many halves are taken beside it. And there are users who have watched one item.
HALVES_OF_A_HISTORY = 15
SINGLE_WATCH_USERS = 100
SEARCH_SECONDS = 60.0


@dataclass(frozen=True, kw_only=True)
class Filling:
    """Fills the collection of one release."""

    release: Release
    address: MilvusAddress
    least_recall: float
    timeout_seconds: float
    report: Callable[[str], None]

    def fill(self) -> CollectionRecord:
        """Fill and verify the collection, or verify the one that is there. Return its record.

        Raises EngineError; then there is no collection of this release that anybody searches.
        """
        network = load_candidate_network(self.release, torch.device("cpu"))
        items_IH = network.item_vectors_IH.detach()
        name = collection_name(self.release.release_id)
        users = self._sample_users(network)
        with self.address.client(self.timeout_seconds) as client:
            record = self._filled_before(client, name)
            if record is not None:
                return self._verified(client, record, users, items_IH)
            try:
                return self._fill(client, name, users, items_IH)
            except BaseException:
                # Nobody searches it without its record, so it does no harm where it cannot be dropped.
                with suppress(MilvusException, grpc.RpcError):
                    client.drop_collection(name)
                raise

    def _filled_before(self, client: MilvusClient, name: str) -> CollectionRecord | None:
        """Return the record of the collection where it holds the release; drop one that does not."""
        if not client.has_collection(name):
            return None
        try:
            if RECORD_PROPERTY in (client.describe_collection(name).get("properties") or {}):
                client.load_collection(name)
            record = open_collection(client, self.release.manifest)
        except EngineError as error:
            self.report(f"it is filled again: {error}")
            client.drop_collection(name)
            return None
        self.report(f"{name} is there already")
        return record

    def _fill(
        self, client: MilvusClient, name: str, users: Sequence[torch.Tensor], items_IH: torch.Tensor
    ) -> CollectionRecord:
        attributes = self.release.attributes()
        fields = attribute_fields(attributes)
        client.create_collection(name, schema=collection_schema(items_IH.shape[1], fields))
        rows = np.setdiff1d(np.arange(len(items_IH), dtype=np.int32), self.release.retired())
        vectors_IH: NDArray[np.float32] = items_IH.float().numpy()
        for start in range(0, len(rows), ROWS_AT_ONCE):
            some = rows[start : start + ROWS_AT_ONCE]
            for block in inserts(entities(some, vectors_IH[some], attributes, fields)):
                client.insert(name, block)
        self.report(f"{len(rows)} items written; the index is built")
        client.flush(name)
        parameters = MilvusClient.prepare_index_params()
        list_count = _list_count(len(rows), items_IH.shape[1])
        parameters.add_index(VECTOR_FIELD, index_type="IVF_FLAT", metric_type="IP", params={"nlist": list_count})
        client.create_index(name, parameters)
        client.load_collection(name)
        record = CollectionRecord(
            release_id=self.release.release_id,
            row_count=len(rows),
            width=items_IH.shape[1],
            list_count=list_count,
            probe_count=1,
            recall_at_200=1.0,
            attributes=fields,
        )
        return self._verified(client, record, users, items_IH)

    def _verified(
        self, client: MilvusClient, record: CollectionRecord, users: Sequence[torch.Tensor], items_IH: torch.Tensor
    ) -> CollectionRecord:
        """Verify a collection and write its record down. Raises EngineError."""
        self._check_counts(client, record)
        record = self._reached(record, users, items_IH)
        name = collection_name(record.release_id)
        client.alter_collection_properties(name, {RECORD_PROPERTY: record.model_dump_json()})
        return record

    def _check_counts(self, client: MilvusClient, record: CollectionRecord) -> None:
        """Raise EngineError unless Milvus holds every item, and its filters match as many as those of the release."""
        name = collection_name(record.release_id)
        found = count(client, name, "")
        if found != record.row_count:
            raise EngineError(f"{name} holds {found} items, not {record.row_count}")
        attributes, retired = self.release.attributes(), self.release.retired()
        for golden in self.release.golden_requests().filters:
            expression = read_filter(golden.canonical, attributes.schema, CANONICAL_LIMITS)
            expected = compile_canonical(golden.canonical, attributes).without(retired).match_count
            translated = translate(expression, record.fields).expression
            if translated is not None and (found := count(client, name, translated)) != expected:
                raise EngineError(f"{name}: the filter {golden.canonical[:80]} matches {found} items, not {expected}")

    def _reached(
        self, record: CollectionRecord, users: Sequence[torch.Tensor], items_IH: torch.Tensor
    ) -> CollectionRecord:
        """Return the record with the fewest lists that find enough for users of every kind.

        Raises EngineError where not even all lists do.
        """
        exact = ExactIndex(items_IH, self.release.retired())
        depth = min(RECALL_DEPTH, record.row_count)
        queries = [RetrievalQuery.without_histories(np.full(len(each), depth, dtype=np.int32)) for each in users]
        true = [exact.search(users_BH, query).rows for users_BH, query in zip(users, queries, strict=True)]

        def recall(probe_count: int) -> float:
            # As if there were no further lists: those that are short are not searched again, for any count.
            tried = record.model_copy(update={"probe_count": probe_count, "list_count": probe_count})
            found = asyncio.run(self._found(tried, users, queries, len(items_IH)))
            return min((float(recall_of_each(*pair).mean()) for pair in zip(found, true, strict=True)), default=1.0)

        probe_count = smallest(lambda count: recall(count) >= self.least_recall, record.list_count)
        reached = recall(probe_count)
        if reached < self.least_recall:
            raise EngineError(f"Milvus finds {reached:.1%} of the best {RECALL_DEPTH}, not {self.least_recall:.1%}")
        self.report(f"recall@{RECALL_DEPTH} {reached:.3f}, with {probe_count} of {record.list_count} lists")
        return record.model_copy(update={"probe_count": probe_count, "recall_at_200": reached})

    async def _found(
        self,
        record: CollectionRecord,
        users: Sequence[torch.Tensor],
        queries: Sequence[RetrievalQuery],
        item_count: int,
    ) -> list[RaggedRows]:
        """Return what Milvus finds for users of each kind."""
        async with self.address.channel() as channel:
            index = MilvusIndex(channel, self.address, record, item_count, self.release.retired())
            deadline = asyncio.get_running_loop().time() + SEARCH_SECONDS
            try:
                return [
                    (await index.search(users_BH.numpy(), query, lambda _canonical: NO_FILTER, deadline)).rows
                    for users_BH, query in zip(users, queries, strict=True)
                ]
            except ServiceError as error:
                raise EngineError(str(error)) from error

    @torch.inference_mode()
    def _sample_users(self, network: DeepCandidateGenerationModel) -> list[torch.Tensor]:
        """Users of two kinds, [B, H] each: with histories like the golden ones, and with a single watch."""
        rng = np.random.default_rng(0)
        golden = self.release.golden_requests().histories
        histories = [golden]
        for position in range(len(golden)):
            whole = golden.slice(position, position + 1)
            for _ in range(HALVES_OF_A_HISTORY):
                kept = np.sort(rng.permutation(len(whole.rows))[: (len(whole.rows) + 1) // 2])
                lengths = np.array([len(kept)])
                histories.append(
                    WatchHistories.from_lengths(whole.rows[kept], lengths, whole.weights[kept], whole.timestamps[kept])
                )
        rows = rng.integers(0, network.n_items, SINGLE_WATCH_USERS).astype(np.int32)
        single = WatchHistories.from_lengths(rows, np.ones(len(rows), dtype=np.int64))
        users = [
            network.user_vectors(network.pack(some)).float() for some in (WatchHistories.concatenate(histories), single)
        ]
        # For a vector of zeros, all items are as good.
        return [users_BH[users_BH.any(dim=1)] for users_BH in users if users_BH.any()]


def _list_count(row_count: int, width: int) -> int:
    """Return the power of two nearest to four times the root of a segment's size."""
    rows_of_segment = max(1, min(row_count, SEGMENT_BYTES // (4 * width)))
    return int(min(MAX_LISTS, 2 ** round(np.log2(4 * rows_of_segment**0.5))))
