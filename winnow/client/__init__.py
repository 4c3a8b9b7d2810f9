"""The Python client for back-end services: plain ids in, typed answers out."""

from winnow.client.blocking import Answer, Item, ScoredItem, StageTimes, WinnowClient, WinnowError

__all__ = ["Answer", "Item", "ScoredItem", "StageTimes", "WinnowClient", "WinnowError"]
