"""The page of an item: why it is, or is not, recommended for the history, and what is like it."""

import asyncio
from dataclasses import dataclass

from winnow.client import Explanation, Item, SimilarItems
from winnow.explorer.failures import Failure
from winnow.explorer.gateways import Gateway, Titles
from winnow.explorer.histories import History, shown_time
from winnow.explorer.inputs import Inputs

SIMILAR_COUNT = 12
EXPLAINED_WATCHES = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Contribution:
    """What one watch adds to the scores of the item."""

    item_id: str
    time: str
    candidate_logit: float
    ranking_score: float
    share: float
    """Of the largest contribution to ranking, from -1 to 1."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ItemView:
    """Everything about an item."""

    item_id: str
    item: Item | None
    """None where the release does not know it, or the gateway gave no answer."""
    explanation: Explanation | Failure
    contributions: tuple[Contribution, ...]
    """The largest first."""
    similar: SimilarItems | Failure
    titles: Titles


async def view(gateway: Gateway, history: History, inputs: Inputs, item_id: str) -> ItemView:
    """Ask for the explanation, for similar items and for what they are called."""
    explanation, similar = await asyncio.gather(
        gateway.attempt(gateway.client.explain(history.request(inputs), item_id, watch_count=EXPLAINED_WATCHES)),
        gateway.attempt(gateway.client.similar([item_id], count=SIMILAR_COUNT)),
    )
    shown = [item_id]
    if not isinstance(explanation, Failure):
        shown += [contribution.item_id for contribution in explanation.contributions]
    if not isinstance(similar, Failure):
        shown += [item.item_id for item in similar.items]
    titles = await gateway.titles(shown)
    return ItemView(
        item_id=item_id,
        item=titles.by_id.get(item_id),
        explanation=explanation,
        contributions=_contributions(explanation, history),
        similar=similar,
        titles=titles,
    )


def _contributions(explanation: Explanation | Failure, history: History) -> tuple[Contribution, ...]:
    if isinstance(explanation, Failure):
        return ()
    watches = history.watches
    largest = max((abs(watch.ranking_score) for watch in explanation.contributions), default=0.0) or 1.0
    shown = [
        Contribution(
            item_id=watch.item_id,
            # The stored history may have grown since it was read.
            time=shown_time(watches[watch.position]) if 0 <= watch.position < len(watches) else "",
            candidate_logit=watch.candidate_logit,
            ranking_score=watch.ranking_score,
            share=watch.ranking_score / largest,
        )
        for watch in explanation.contributions
    ]
    return tuple(sorted(shown, key=lambda contribution: -contribution.ranking_score))
