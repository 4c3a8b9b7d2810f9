import asyncio

import numpy as np
import pytest

from gateway.served_catalogue import ServedCatalogue
from gateway.sources import fresh
from gateway.sources.fresh import FreshSource, NewestRows
from tests.unit.gateway.stages import candidate_request
from winnow.catalogue.value_columns import MISSING_TIMESTAMP
from winnow.serving.metrics import Metrics

SECOND = 1_000_000


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def newest(*seconds: float | None, clock: Clock) -> NewestRows:
    moments = [MISSING_TIMESTAMP if moment is None else int(moment * SECOND) for moment in seconds]
    return NewestRows(np.array(moments, dtype=np.int64), clock)


def test_the_newest_rows_come_first_and_those_without_a_moment_do_not_come() -> None:
    assert newest(5, None, 100, -20, 99.5, 5, clock=Clock()).rows().tolist() == [2, 4, 0, 5, 3]
    assert newest(None, None, clock=Clock()).rows().tolist() == []
    assert newest(clock=Clock()).rows().dtype == np.int32


def test_an_item_of_the_future_is_fresh_from_its_moment_on() -> None:
    clock = Clock()
    rows = newest(50, 200, 150, 99, clock=clock)
    assert rows.rows().tolist() == [3, 0]
    clock.now = 150
    assert rows.rows().tolist() == [2, 3, 0]
    clock.now = 1e6
    assert rows.rows().tolist() == [1, 2, 3, 0]


def test_of_many_rows_those_around_the_present_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fresh, "MOST_ROWS", 3)
    clock = Clock()
    rows = newest(*range(90, 110), clock=clock)
    assert rows.rows().tolist() == [10, 9, 8]
    clock.now = 1e6
    assert rows.rows().tolist() == [13, 12, 11, 10, 9, 8]


def test_fresh_items_up_to_the_quota(catalogue: ServedCatalogue) -> None:
    async def propose() -> list[list[int]]:
        source = FreshSource(newest(1, 4, 3, 2, clock=Clock()), 2, catalogue, Metrics())
        found = await source.propose([candidate_request(), candidate_request(1)], deadline=0)
        return [proposed.rows.tolist() for proposed in found if proposed is not None]

    assert asyncio.run(propose()) == [[1, 2], [2, 3]]
