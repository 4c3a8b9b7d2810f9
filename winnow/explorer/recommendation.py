"""The first page: watches, candidates and the ranked list beside each other."""

import asyncio
from dataclasses import dataclass

from winnow.client import ItemSource, RankedItems, Recommendations, RetrievedItems
from winnow.explorer.failures import Failure
from winnow.explorer.gateways import Gateway, Titles
from winnow.explorer.histories import History
from winnow.explorer.inputs import Inputs
from winnow.explorer.timing import Part, parts_of
from winnow.explorer.words import why_moved

CANDIDATE_COUNT = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """An item that retrieval found."""

    place: int
    item_id: str
    score: float
    rank: int | None
    """Its place by ranking score among all candidates. None where ranking gave no answer."""
    position: int | None
    """In the answer; None where it is not in it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ranked:
    """An item of the answer."""

    position: int
    item_id: str
    score: float
    place: int | None
    """Among the candidates of the network; None where another source proposed it."""
    rise: int | None
    """How many places it has gained by ranking and selection; negative where it has lost."""
    sources: tuple[ItemSource, ...]
    moved: str
    """What selection did; empty where it did nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Chain:
    """What both stages made of a history."""

    history: History
    titles: Titles
    answer: Recommendations | Failure
    retrieved: RetrievedItems | Failure
    ranked: tuple[Ranked, ...]
    candidates: tuple[Candidate, ...]
    timing: tuple[Part, ...]


async def ask(gateway: Gateway, history: History, inputs: Inputs) -> Chain:
    """Ask for the answer, and for the candidates behind it."""
    request = history.request(inputs)
    client = gateway.client
    answer, (retrieved, scored) = await asyncio.gather(
        gateway.attempt(
            client.recommend(
                request.history,
                count=request.count,
                filter=request.filter,
                caps=request.caps,
                diversity=request.diversity,
                user_id=request.user_id,
            )
        ),
        _candidates(gateway, history, inputs),
    )
    found = [
        *(item.item_id for item in ([] if isinstance(answer, Failure) else answer.items)),
        *(item.item_id for item in ([] if isinstance(retrieved, Failure) else retrieved.items)),
    ]
    titles = await gateway.titles([*found, *history.item_ids])
    ranked, candidates = joined(answer, retrieved, scored)
    return Chain(
        history=history,
        titles=titles,
        answer=answer,
        retrieved=retrieved,
        ranked=ranked,
        candidates=candidates,
        timing=() if isinstance(answer, Failure) else tuple(parts_of(answer.timing)),
    )


async def _candidates(
    gateway: Gateway, history: History, inputs: Inputs
) -> tuple[RetrievedItems | Failure, RankedItems | Failure | None]:
    """Retrieve candidates and score them, as the chain does; None where there is nothing to score."""
    request = history.request(inputs)
    retrieved = await gateway.attempt(
        gateway.client.retrieve(request.history, count=CANDIDATE_COUNT, filter=request.filter, user_id=request.user_id)
    )
    if isinstance(retrieved, Failure) or not retrieved.items:
        return retrieved, None
    item_ids = [item.item_id for item in retrieved.items]
    return retrieved, await gateway.attempt(gateway.client.rank(request.history, item_ids, user_id=request.user_id))


def joined(
    answer: Recommendations | Failure, retrieved: RetrievedItems | Failure, scored: RankedItems | Failure | None
) -> tuple[tuple[Ranked, ...], tuple[Candidate, ...]]:
    """Return the items of the answer and the candidates, each with its place in the other list."""
    answered = () if isinstance(answer, Failure) else answer.items
    found = () if isinstance(retrieved, Failure) else retrieved.items
    by_score = () if scored is None or isinstance(scored, Failure) else scored.items
    places = {item.item_id: place for place, item in enumerate(found, start=1)}
    ranks = {item.item_id: rank for rank, item in enumerate(by_score, start=1)}
    positions = {item.item_id: position for position, item in enumerate(answered, start=1)}
    ranked = tuple(
        Ranked(
            position=position,
            item_id=item.item_id,
            score=item.score,
            place=places.get(item.item_id),
            rise=places[item.item_id] - position if item.item_id in places else None,
            sources=item.sources,
            moved=why_moved(item.move) if item.move else "",
        )
        for position, item in enumerate(answered, start=1)
    )
    candidates = tuple(
        Candidate(
            place=place,
            item_id=item.item_id,
            score=item.score,
            rank=ranks.get(item.item_id),
            position=positions.get(item.item_id),
        )
        for place, item in enumerate(found, start=1)
    )
    return ranked, candidates
