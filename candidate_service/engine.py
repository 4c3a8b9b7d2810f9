"""Candidate generation with an external engine: the network computes user vectors here, Milvus searches.

Shape legend: B queries, H width of a vector.
"""

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, ClassVar

import grpc
import numpy as np
import structlog
import torch
from numpy.typing import NDArray
from torch import Tensor

from candidate_service.settings import CandidateSettings
from winnow.catalogue.filters.checker import read_filter
from winnow.catalogue.filters.parser import CANONICAL_LIMITS
from winnow.history import RaggedRows
from winnow.milvus.collection import open_collection
from winnow.milvus.connection import EngineError, MilvusAddress
from winnow.milvus.expressions import EngineFilter, translate
from winnow.milvus.index import MilvusIndex
from winnow.milvus.record import CollectionRecord
from winnow.networks.candidate import DeepCandidateGenerationModel
from winnow.networks.folded_history import FoldedUserVectors
from winnow.networks.packed import pack
from winnow.queries import Candidates, Restriction, RetrievalQuery
from winnow.release.golden import GoldenRequests, check_scores
from winnow.release.golden_filters import GoldenMismatchError
from winnow.release.manifest import CANDIDATE_ADDED_FILE, CANDIDATE_NETWORK_FILE, RETIRED_FILE
from winnow.release.models.loader import load_candidate_network
from winnow.release.reader import Release, ReleaseError
from winnow.rpc.errors import ServiceError
from winnow.serving.device import Device, work_of
from winnow.serving.filters import CompiledFilters

_log = structlog.get_logger(__name__)

ENGINE_FILES = frozenset({CANDIDATE_NETWORK_FILE, CANDIDATE_ADDED_FILE, RETIRED_FILE})
"""What is read of a release, besides the golden requests."""

# How long Milvus may take for each question while a release is loaded.
LOADING_SECONDS = 20.0
# How many of the golden candidates have to be found: see Retriever.
LEAST_GOLDEN_SHARE = 0.5


class Engine:
    """The connection to Milvus that the releases of a service share."""

    def __init__(self, settings: CandidateSettings) -> None:
        """Raises ValueError where the address or a file cannot be used."""
        self._address = MilvusAddress(
            uri=settings.engine_address,
            database=settings.engine_database,
            token_file=settings.engine_token_file,
            ca_file=settings.engine_ca_file,
        )
        self._channel: grpc.aio.Channel | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    def open(self) -> None:
        """Make the channel; called on the event loop. Whether Milvus answers is found out later."""
        self._loop = asyncio.get_running_loop()
        self._channel = self._address.channel()

    async def close(self) -> None:
        """Close the channel."""
        if self._channel is not None:
            await self._channel.close()

    def retriever(self, release: Release, device: torch.device, filter_cache_bytes: int) -> "EngineRetriever":
        """Load the network of a release for its collection, in another thread than the event loop's.

        Raises ReleaseError where Milvus has no such collection, or one that does not fit.
        """
        if self._channel is None:
            raise AssertionError("the engine has not been opened")
        network = load_candidate_network(release, device, with_output_table=False)
        try:
            with self._address.client(LOADING_SECONDS) as client:
                record = open_collection(client, release.manifest)
        except EngineError as error:
            raise ReleaseError(f"release {release.release_id}: {error}") from error
        index = MilvusIndex(self._channel, self._address, record, network.n_items, release.retired())
        return EngineRetriever(network, index, record, device, filter_cache_bytes, self._run)

    def _run(self, call: Coroutine[Any, Any, Candidates]) -> Candidates:
        """Wait in another thread for a call on the event loop."""
        if self._loop is None:
            raise AssertionError("the engine has not been opened")
        return asyncio.run_coroutine_threadsafe(call, self._loop).result(2 * LOADING_SECONDS)


class EngineRetriever:
    """Answers batches of queries from the collection of one release. Implements StageModel."""

    # While Milvus searches for one, the user vectors of another are computed.
    batches_in_flight: ClassVar[int] = 4

    def __init__(
        self,
        network: DeepCandidateGenerationModel,
        index: MilvusIndex,
        record: CollectionRecord,
        device: torch.device,
        filter_cache_bytes: int,
        run: Callable[[Coroutine[Any, Any, Candidates]], Candidates],
    ) -> None:
        """`network` needs no output table. `run` waits for a call on the event loop, from another thread."""
        self._network = network
        self._user_vectors = FoldedUserVectors(network) if device.type == "cpu" else network.user_vectors
        self._index = index
        self._device = device
        self._run = run
        schema, fields = record.schema_of_filters, record.fields

        def compile_it(canonical: str) -> EngineFilter:
            translated = translate(read_filter(canonical, schema, CANONICAL_LIMITS), fields)
            if translated.expression is None:
                _log.warning("a filter is too long for Milvus: it matches nothing", filter=canonical[:200])
            return translated

        self._filters = CompiledFilters(compile_it, filter_cache_bytes)

    @property
    def item_count(self) -> int:
        """Rows lie in [0, item_count)."""
        return self._network.n_items

    async def prepare(self, query: RetrievalQuery) -> None:
        """Translate the filters of a query that are not kept from before.

        Raises FilterError where one does not fit the release.
        """
        for canonical in {restriction.filter for restriction in query.restrictions.values() if restriction.filter}:
            await self._filters.get(canonical)

    async def answer(
        self, batch: Sequence[RetrievalQuery], device: Device, deadline: float
    ) -> tuple[Sequence[Candidates], float]:
        """See StageModel.answer. Raises UnavailableError or DeadlineError where Milvus gives no answer."""
        loop = asyncio.get_running_loop()
        started = loop.time()
        query = RetrievalQuery.concatenate(batch)
        user_BH, _ = await device.run(lambda: self._users(query), work_of(batch))
        found = await self._index.search(user_BH, query, self._filters.get_here, deadline)
        return found.split([len(query) for query in batch]), loop.time() - started

    def check_golden(self, golden: GoldenRequests) -> None:
        """Raise GoldenMismatchError unless the golden requests are answered as when the release was made.

        Called in another thread than the event loop's.
        """
        self._compare("the engine", golden, golden.candidates, golden.candidate_scores, "")
        if golden.filter:
            who = "the engine, under a filter,"
            self._compare(who, golden, golden.filtered_candidates, golden.filtered_scores, golden.filter)

    def _compare(
        self, who: str, golden: GoldenRequests, wanted: RaggedRows, scores: NDArray[np.float32], canonical: str
    ) -> None:
        allowed = None
        if self._network.neighbours:
            # The engine knows nothing of neighbours, and its best are others: it is asked for these rows' logits.
            allowed, scores = wanted, scores - self._of_neighbours(golden, wanted)
        restrictions = {
            position: Restriction(filter=canonical, allowed=None if allowed is None else allowed[position])
            for position in range(len(wanted))
        }
        query = RetrievalQuery(
            histories=golden.histories,
            counts=np.maximum(wanted.lengths, 1).astype(np.int32),
            exclusions=golden.histories,
            restrictions={position: restriction for position, restriction in restrictions.items() if restriction},
        )
        _check(who, self._retrieve(query), wanted, scores)

    @torch.inference_mode()
    def _of_neighbours(self, golden: GoldenRequests, wanted: RaggedRows) -> NDArray[np.float32]:
        """What the tables of the release add to the logit of each row."""
        candidates = pack(wanted, self._device)
        nothing = torch.zeros(len(wanted.rows), device=self._device)
        histories = self._network.pack(golden.histories)
        return self._network.neighbours.add(nothing, histories, candidates).cpu().numpy()

    def _retrieve(self, query: RetrievalQuery) -> Candidates:
        async def search() -> Candidates:
            deadline = asyncio.get_running_loop().time() + LOADING_SECONDS
            return await self._index.search(user_BH, query, self._filters.get_here, deadline)

        user_BH = self._users(query)
        try:
            return self._run(search())
        except (ServiceError, TimeoutError) as error:
            raise GoldenMismatchError(f"the engine gives no answer: {error}") from error

    @torch.inference_mode()
    def _users(self, query: RetrievalQuery) -> NDArray[np.float32]:
        user_BH: Tensor = self._user_vectors(self._network.pack(query.histories))
        vectors: NDArray[np.float32] = user_BH.float().cpu().numpy()
        return vectors


def _check(who: str, found: Candidates, wanted: RaggedRows, scores: NDArray[np.float32]) -> None:
    """Raise GoldenMismatchError unless most of the rows are found, and with the scores that they had.

    The scores say that the collection has the vectors of this network.
    """
    hits = 0
    for query in range(len(wanted)):
        rows, start = wanted[query], wanted.offsets[query]
        found_start = found.rows.offsets[query]
        _, here, there = np.intersect1d(rows, found.rows[query], return_indices=True)
        check_scores(who, scores[start + here], found.scores[found_start + there])
        hits += len(here)
    if hits < LEAST_GOLDEN_SHARE * len(wanted.rows):
        raise GoldenMismatchError(f"{who} finds {hits} of {len(wanted.rows)} golden candidates")
