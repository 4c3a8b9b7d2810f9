"""What requests say, read from their messages as RequestReader takes it; nothing is checked here."""

from collections.abc import Sequence
from itertools import repeat
from operator import attrgetter
from typing import Any, Literal

from gateway.requests import GivenContext, GivenHistory, GivenRestriction
from gateway.selection_rules import MAX_CAPS, MAX_PINNED_ITEMS, NOTHING_SELECTED, GivenSelection
from gateway.users import StoredHistory
from winnow.v1 import recommendation_pb2

_item_id = attrgetter("item_id")
# Unbound: `watch.HasField` would make an object for every watch.
_has_field = recommendation_pb2.Watch.HasField


def given_history(
    watches: Sequence[recommendation_pb2.Watch], stored: StoredHistory | None, max_history_items: int
) -> GivenHistory:
    """Read the watches once; none of them where there are too many."""
    if len(watches) > max_history_items:
        return GivenHistory(length=len(watches))
    # Every pass over a repeated field makes its messages anew.
    watches = list(watches)
    return GivenHistory(
        length=len(watches),
        item_ids=list(map(_item_id, watches)),
        weights=_given(watches, "weight"),
        times=_given(watches, "timestamp_seconds"),
        stored=stored,
    )


def given_restriction(
    message: recommendation_pb2.RecommendItemsRequest
    | recommendation_pb2.RetrieveItemsRequest
    | recommendation_pb2.SimilarItemsRequest,
) -> GivenRestriction:
    """Read which items may be in the answer."""
    return GivenRestriction(filter=message.filter, allowed_item_ids=message.allowed_item_ids)


def given_selection(message: recommendation_pb2.RecommendItemsRequest) -> GivenSelection:
    """Read what is asked of selection; no more of it than shows that there is too much."""
    has_diversity = message.HasField("diversity")
    if not (message.caps or message.pinned_items or has_diversity):
        return NOTHING_SELECTED
    return GivenSelection(
        caps=[(cap.attribute, cap.max_count) for cap in message.caps[: MAX_CAPS + 1]],
        pinned_items=[(pinned.item_id, pinned.position) for pinned in message.pinned_items[: MAX_PINNED_ITEMS + 1]],
        diversity=message.diversity if has_diversity else None,
    )


def given_context(
    message: recommendation_pb2.RecommendItemsRequest | recommendation_pb2.RankItemsRequest,
) -> GivenContext:
    """Read when the request is made, and what was shown before."""
    return GivenContext(
        request_timestamp_seconds=message.request_timestamp_seconds
        if message.HasField("request_timestamp_seconds")
        else None,
        unclicked_item_ids=message.unclicked_item_ids,
    )


def _given(watches: Sequence[recommendation_pb2.Watch], field: Literal["weight", "timestamp_seconds"]) -> Sequence[Any]:
    """Return an optional field of every watch, None where it is not set; nothing if no watch has it."""
    if watches and watches[0].HasField(field):
        # Usually all watches have it then, and a value that does not read as 0 is set: no need to ask each watch.
        values = list(map(attrgetter(field), watches))
        if all(values):
            return values
    is_set = list(map(_has_field, watches, repeat(field)))
    if True not in is_set:
        return ()
    return [getattr(watch, field) if known else None for watch, known in zip(watches, is_set, strict=True)]
