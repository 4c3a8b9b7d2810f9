"""The golden requests of a release: sample histories, answered by the plain networks."""

import numpy as np
import torch

from winnow.catalogue.attributes import Attributes
from winnow.catalogue.filters.compiler import compile_canonical
from winnow.contexts import RequestContexts
from winnow.history import RaggedRows, Rows, WatchHistories
from winnow.index import restricted
from winnow.index.exact import ExactIndex
from winnow.index.raised import with_raised
from winnow.index.selection import Selection
from winnow.networks.candidate import DeepCandidateGenerationModel
from winnow.networks.packed import pack
from winnow.networks.ranking import DeepRankingModel
from winnow.queries import Candidates, Restriction, RetrievalQuery
from winnow.release.golden import GoldenRequests
from winnow.release.golden_filters import golden_filters

# Enough to notice a broken tower or table, few enough to be checked in milliseconds.
GOLDEN_CANDIDATES = 50


@torch.inference_mode()
def golden_requests(
    candidate: DeepCandidateGenerationModel,
    ranking: DeepRankingModel,
    attributes: Attributes,
    samples: RaggedRows,
    contexts: RequestContexts | None,
    retired: Rows,
) -> GoldenRequests:
    """Answer sample histories without the watched and the retired items, as in serving.

    `contexts` is what else is known of each sample; None is nothing.
    """
    histories = WatchHistories.of(samples)
    contexts = contexts or RequestContexts.unknown(len(histories))
    packed = candidate.pack(histories)
    user_BH = candidate.user_vectors(packed)
    index = ExactIndex(candidate.item_vectors_IH, retired)

    def retrieve(canonical: str) -> Candidates:
        restriction = Restriction(filter=canonical)
        query = RetrievalQuery(
            histories=histories,
            counts=np.full(len(histories), GOLDEN_CANDIDATES, dtype=np.int32),
            exclusions=histories,
            restrictions=dict.fromkeys(range(len(histories)), restriction) if restriction else {},
        )

        def selection_of(canonical: str) -> Selection:
            return index.select(compile_canonical(canonical, attributes))

        found = restricted.search(index, user_BH, query, selection_of)
        if not candidate.neighbours:
            return found
        raised = candidate.neighbours.item_scores(packed).lists(len(histories))
        return with_raised(
            found, raised, user_BH, candidate.item_vectors_IH, query, retired=retired, selection_of=selection_of
        )

    retrieved = retrieve("")
    filters = golden_filters(attributes)
    # The one that says most about retrieval: it leaves out about half of the items.
    half = attributes.item_count / 2
    by_share = sorted(filters, key=lambda golden: abs(golden.match_count - half))
    chosen = by_share[0].canonical if by_share else ""
    filtered = retrieve(chosen)
    candidates = pack(retrieved.rows, user_BH.device)
    return GoldenRequests(
        histories=histories,
        candidates=retrieved.rows,
        candidate_scores=retrieved.scores,
        contexts=contexts,
        filters=filters,
        filter=chosen,
        filtered_candidates=filtered.rows,
        filtered_scores=filtered.scores,
        ranking_scores=ranking.scores(ranking.logits(ranking.pack(histories, contexts), candidates)).cpu().numpy(),
    )
