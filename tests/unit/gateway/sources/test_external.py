import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field

from gateway.served_catalogue import ServedCatalogue
from gateway.settings import ExternalSourceSettings
from gateway.sources.external import ExternalSource
from tests.releases import item_id
from tests.unit.gateway.sources.test_proposed import outcomes
from tests.unit.gateway.stages import candidate_request
from winnow.serving.metrics import Metrics


@dataclass
class Client:
    answer: list[list[str]] | None
    settings: ExternalSourceSettings = ExternalSourceSettings(name="editors", target="unused", history_count=2)  # noqa: RUF009 - frozen
    histories: list[Sequence[str]] = field(default_factory=list)

    async def propose(self, histories: Sequence[Sequence[str]], deadline: float) -> list[list[str]] | None:
        self.histories += histories
        return self.answer


def propose(client: Client, catalogue: ServedCatalogue, metrics: Metrics) -> list[tuple[list[int], list[int]]]:
    async def ask() -> list[tuple[list[int], list[int]]]:
        source = ExternalSource(client, catalogue, metrics)
        found = await source.propose([candidate_request(1, 2, 3), candidate_request()], deadline=1e9)
        return [(proposed.rows.tolist(), proposed.places.tolist()) for proposed in found if proposed is not None]

    return asyncio.run(ask())


def test_it_is_told_the_latest_watches_and_what_it_proposes_becomes_rows(catalogue: ServedCatalogue) -> None:
    metrics = Metrics()
    client = Client([["unknown", item_id(9), item_id(2), "unknown too", item_id(7)], []])
    assert propose(client, catalogue, metrics) == [([9, 7], [2, 5]), ([], [])]
    assert client.histories == [[item_id(2), item_id(3)], []]
    assert outcomes(metrics, "editors") == {"used": 2, "unknown": 2, "excluded": 1}


def test_without_an_answer_it_proposes_nothing_for_any_request(catalogue: ServedCatalogue) -> None:
    assert propose(Client(None), catalogue, Metrics()) == [([], []), ([], [])]
