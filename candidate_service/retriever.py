"""Candidate generation of one release: histories -> user vectors -> index, and what neighbours add."""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from candidate_service.filters import selections
from winnow.catalogue.attributes import Attributes
from winnow.catalogue.filters.compiler import compile_canonical
from winnow.history import NO_ROWS, RaggedRows, Rows
from winnow.index import restricted
from winnow.index.exact import ExactIndex
from winnow.index.protocol import CandidateIndex
from winnow.index.raised import with_raised
from winnow.index.restricted import SelectionOf
from winnow.networks.candidate import DeepCandidateGenerationModel
from winnow.networks.folded_history import FoldedUserVectors
from winnow.networks.packed import pack
from winnow.queries import Candidates, Restriction, RetrievalQuery
from winnow.release.golden import GoldenRequests, check_scores
from winnow.release.golden_filters import GoldenMismatchError, check_filters
from winnow.release.manifest import (
    ATTRIBUTES_FILE,
    CANDIDATE_ADDED_FILE,
    CANDIDATE_NETWORK_FILE,
    INDEX_FILE,
    RETIRED_FILE,
)
from winnow.release.models.loader import load_candidate_network, load_index
from winnow.release.reader import Release
from winnow.serving.device import ComputedModel

RELEASE_FILES = frozenset({CANDIDATE_NETWORK_FILE, CANDIDATE_ADDED_FILE, INDEX_FILE, ATTRIBUTES_FILE, RETIRED_FILE})
"""What is read of a release, besides the golden requests."""

DEFAULT_FILTER_CACHE_BYTES = 256 * 2**20

# How many of the golden candidates an approximate index has to find: a working one finds nearly all, a broken one none.
LEAST_GOLDEN_SHARE = 0.5


class Retriever(ComputedModel[RetrievalQuery, Candidates]):
    """Answers batches of queries on one device."""

    def __init__(
        self,
        network: DeepCandidateGenerationModel,
        index: CandidateIndex,
        device: torch.device,
        attributes: Attributes,
        filter_cache_bytes: int = DEFAULT_FILTER_CACHE_BYTES,
        *,
        retired: Rows = NO_ROWS,
        on_full_scans: Callable[[int], None] = lambda _count: None,
    ) -> None:
        """Search `index`, which finds no `retired` rows.

        `on_full_scans` is told how many queries of a batch an approximate index has answered by a full scan.
        """
        self._network = network
        self._user_vectors = FoldedUserVectors(network) if device.type == "cpu" else network.user_vectors
        self._index = index
        self._attributes = attributes
        self._selections = selections(attributes, index, filter_cache_bytes)
        self._device = device
        self._exact_index = ExactIndex(network.item_vectors_IH, retired)
        self._retired = retired
        self._on_full_scans = on_full_scans

    @classmethod
    def from_release(
        cls,
        release: Release,
        device: torch.device,
        *,
        exact_search: bool = False,
        filter_cache_bytes: int = DEFAULT_FILTER_CACHE_BYTES,
        on_full_scans: Callable[[int], None] = lambda _count: None,
    ) -> "Retriever":
        """Load network and index. Raises ReleaseError where they do not fit the release.

        On a GPU, and with `exact_search`, all items are scanned, whatever index the release has.
        """
        network = load_candidate_network(release, device)
        # A GPU scans a million items in less time than a CPU takes to search an approximate index.
        scan = exact_search or device.type != "cpu"
        items_IH = network.item_vectors_IH
        retired = release.retired()
        index = ExactIndex(items_IH, retired) if scan else load_index(release, items_IH)
        return cls(
            network,
            index,
            device,
            release.attributes(),
            filter_cache_bytes,
            retired=retired,
            on_full_scans=on_full_scans,
        )

    @property
    def item_count(self) -> int:
        """Rows lie in [0, item_count)."""
        return self._network.n_items

    @property
    def exact(self) -> bool:
        """Whether the candidates are always those that a full scan finds."""
        return self._index.exact

    @torch.inference_mode()
    def retrieve(self, query: RetrievalQuery) -> Candidates:
        """Return the best candidates of each query, best first, with the network's scores."""
        return self._search(self._index, query, self._selections.get_here)

    @torch.inference_mode()
    def retrieve_exactly(self, query: RetrievalQuery) -> Candidates:
        """Return what `retrieve` would if all items were scanned; from any thread."""
        return self._search(
            self._exact_index,
            query,
            lambda canonical: self._exact_index.select(compile_canonical(canonical, self._attributes)),
        )

    def _search(self, index: CandidateIndex, query: RetrievalQuery, selection_of: SelectionOf) -> Candidates:
        histories = self._network.pack(query.histories)
        user_BH = self._user_vectors(histories)
        found = restricted.search(index, user_BH, query, selection_of)
        if not self._network.neighbours:
            return found
        return with_raised(
            found,
            self._network.neighbours.item_scores(histories).lists(len(query)),
            user_BH,
            self._network.item_vectors_IH,
            query,
            retired=self._retired,
            selection_of=selection_of,
        )

    async def prepare(self, query: RetrievalQuery) -> None:
        """Compile the filters of a query that are not kept from before, so that `retrieve` finds them.

        Raises FilterError where one does not fit the release.
        """
        for canonical in {restriction.filter for restriction in query.restrictions.values() if restriction.filter}:
            await self._selections.get(canonical)

    def compute(self, batch: Sequence[RetrievalQuery]) -> list[Candidates]:
        """Answer the queries of several calls as one."""
        scans_before = self._index.full_scan_count
        found = self.retrieve(RetrievalQuery.concatenate(batch))
        if self._index.full_scan_count > scans_before:
            self._on_full_scans(self._index.full_scan_count - scans_before)
        return found.split([len(query) for query in batch])

    def check_golden(self, golden: GoldenRequests) -> None:
        """Raise GoldenMismatchError unless the golden requests are answered as when the release was made."""
        check_scores("candidate network", golden.candidate_scores, self._scores(golden))
        counts = golden.candidates.lengths.astype(np.int32)
        query = RetrievalQuery(histories=golden.histories, counts=counts, exclusions=golden.histories)
        found = self.retrieve(query)
        if self._index.exact:
            check_scores("index", golden.candidate_scores, found.scores)
        elif (share := _share_found(golden.candidates, found.rows)) < LEAST_GOLDEN_SHARE:
            raise GoldenMismatchError(f"index: it finds {share:.0%} of the golden candidates")
        check_filters(golden.filters, self._attributes)
        self._check_filtered(golden)

    def _check_filtered(self, golden: GoldenRequests) -> None:
        restriction = Restriction(filter=golden.filter)
        query = RetrievalQuery(
            histories=golden.histories,
            counts=np.maximum(golden.filtered_candidates.lengths, 1).astype(np.int32),
            exclusions=golden.histories,
            restrictions=dict.fromkeys(range(len(golden.histories)), restriction) if restriction else {},
        )
        found = self.retrieve(query)
        if self._index.exact:
            check_scores("filtered index", golden.filtered_scores, found.scores)
        elif (share := _share_found(golden.filtered_candidates, found.rows)) < LEAST_GOLDEN_SHARE:
            raise GoldenMismatchError(f"index: it finds {share:.0%} of the golden candidates under a filter")

    @torch.inference_mode()
    def _scores(self, golden: GoldenRequests) -> NDArray[np.float32]:
        """The network's score of each golden candidate, without the index."""
        histories, candidates = self._network.pack(golden.histories), pack(golden.candidates, self._device)
        logits_N = (
            self._user_vectors(histories)[candidates.list_of_each_row()]
            * self._network.item_vectors_IH[candidates.rows.long()]
        ).sum(dim=1)
        return self._network.neighbours.add(logits_N, histories, candidates).cpu().numpy()


def _share_found(wanted: RaggedRows, found: RaggedRows) -> float:
    hits = sum(int(np.isin(wanted[query], found[query]).sum()) for query in range(len(wanted)))
    return hits / max(len(wanted.rows), 1)
