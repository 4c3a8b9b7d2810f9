"""The Python client for back-end services. It needs grpcio, protobuf and googleapis-common-protos only.

with WinnowClient("localhost:50050") as winnow:
    answer = winnow.recommend(["Alien (1979)", "Blade Runner (1982)"], count=10)
    for item in answer.items:
        print(item.item_id, item.score)

AsyncWinnowClient has the same methods for asyncio.
"""

from winnow.client.answers import (
    Attribute,
    AttributeType,
    CandidateSource,
    Degradation,
    DegradationStep,
    Item,
    Items,
    ItemSource,
    Move,
    MoveReason,
    RankedItems,
    Recommendations,
    ReleaseSchema,
    RetrievedItems,
    ScoredItem,
    ScoreType,
    SearchPage,
    Timing,
)
from winnow.client.asynchronous import AsyncWinnowClient
from winnow.client.blocking import WinnowClient
from winnow.client.errors import WinnowError
from winnow.client.events import Event, EventKind
from winnow.client.explanations import (
    AbsenceReason,
    Explanation,
    RankingExplanation,
    RetrievalExplanation,
    SimilarItems,
    WatchContribution,
)
from winnow.client.releases import (
    Epoch,
    Evaluation,
    ReleaseFacts,
    ReleaseIndex,
    ReleaseState,
    ReleaseStatus,
    ServiceStatus,
)
from winnow.client.request_messages import RecommendationRequest
from winnow.client.watches import Watch
from winnow.rpc.violations import Violation

__all__ = [
    "AbsenceReason",
    "AsyncWinnowClient",
    "Attribute",
    "AttributeType",
    "CandidateSource",
    "Degradation",
    "DegradationStep",
    "Epoch",
    "Evaluation",
    "Event",
    "EventKind",
    "Explanation",
    "Item",
    "ItemSource",
    "Items",
    "Move",
    "MoveReason",
    "RankedItems",
    "RankingExplanation",
    "RecommendationRequest",
    "Recommendations",
    "ReleaseFacts",
    "ReleaseIndex",
    "ReleaseSchema",
    "ReleaseState",
    "ReleaseStatus",
    "RetrievalExplanation",
    "RetrievedItems",
    "ScoreType",
    "ScoredItem",
    "SearchPage",
    "ServiceStatus",
    "SimilarItems",
    "Timing",
    "Violation",
    "Watch",
    "WatchContribution",
    "WinnowClient",
    "WinnowError",
]
