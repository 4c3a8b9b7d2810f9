"""The Python client for back-end services. It needs grpcio, protobuf and googleapis-common-protos only.

with WinnowClient("localhost:50050") as winnow:
    answer = winnow.recommend(["Alien (1979)", "Blade Runner (1982)"], count=10)
    for item in answer.items:
        print(item.item_id, item.score)
"""

from winnow.client.answers import (
    Attribute,
    AttributeType,
    CandidateSource,
    Degradation,
    DegradationStep,
    Item,
    Items,
    RankedItems,
    Recommendations,
    ReleaseSchema,
    RetrievedItems,
    ScoredItem,
    ScoreType,
    SearchPage,
    Timing,
)
from winnow.client.blocking import WinnowClient
from winnow.client.errors import WinnowError
from winnow.client.watches import Watch
from winnow.rpc.violations import Violation

__all__ = [
    "Attribute",
    "AttributeType",
    "CandidateSource",
    "Degradation",
    "DegradationStep",
    "Item",
    "Items",
    "RankedItems",
    "Recommendations",
    "ReleaseSchema",
    "RetrievedItems",
    "ScoreType",
    "ScoredItem",
    "SearchPage",
    "Timing",
    "Violation",
    "Watch",
    "WinnowClient",
    "WinnowError",
]
