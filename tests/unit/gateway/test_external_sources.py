"""An external source may answer anything at any time: it is asked once more in a while, and never waited for long."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import grpc
import pytest

from gateway.external_sources import ExternalSourceClient
from gateway.settings import ExternalSourceSettings
from tests.unit.gateway.stages import FakeExternalSource, caller_of, status
from winnow.serving.metrics import Metrics
from winnow.v1 import source_pb2

SETTINGS = ExternalSourceSettings(name="editors", target="unused", candidate_count=3, timeout_seconds=0.05)
INTERNAL = status(grpc.StatusCode.INTERNAL)
HISTORIES = [["a", "b"], []]


def client_of(server: FakeExternalSource, metrics: Metrics | None = None) -> ExternalSourceClient:
    metrics = metrics or Metrics()
    return ExternalSourceClient(SETTINGS, caller_of("editors", server, metrics=metrics), metrics)


def run(work: Callable[[], Awaitable[Any]]) -> Any:
    async def main() -> Any:
        return await work()

    return asyncio.run(main())


async def propose(client: ExternalSourceClient, seconds: float = 5.0) -> list[list[str]] | None:
    return await client.propose(HISTORIES, asyncio.get_running_loop().time() + seconds)


def proposal(item_ids: list[str], scores: list[float]) -> source_pb2.ProposedCandidates:
    return source_pb2.ProposedCandidates(item_ids=item_ids, scores=scores)


def test_one_call_for_the_whole_batch() -> None:
    server = FakeExternalSource(item_ids=["x", "y"])
    assert run(lambda: propose(client_of(server))) == [["x", "y"], ["x", "y"]]
    [request] = server.requests
    assert [list(query.history_item_ids) for query in request.queries] == HISTORIES
    assert [query.candidate_count for query in request.queries] == [3, 3]


def test_ids_are_in_the_order_of_their_scores_and_no_more_than_the_quota() -> None:
    def with_scores(answer: Any) -> None:
        answer.proposals[0].CopyFrom(proposal(["a", "b", "c", "d"], [1, 4, 4, 2]))
        answer.proposals[1].CopyFrom(proposal(["a", "b", "c", "d"], []))

    server = FakeExternalSource(outcomes=[with_scores])
    assert run(lambda: propose(client_of(server))) == [["b", "c", "d"], ["a", "b", "c"]]


def lack_a_list(answer: Any) -> None:
    del answer.proposals[1]


def have_a_list_too_many(answer: Any) -> None:
    answer.proposals.add()


def lack_a_score(answer: Any) -> None:
    answer.proposals[0].CopyFrom(proposal(["a", "b"], [1]))


def score_with_nan(answer: Any) -> None:
    answer.proposals[0].CopyFrom(proposal(["a", "b"], [1, float("nan")]))


def have_a_million_empty_ids(answer: Any) -> None:
    answer.proposals[0].item_ids.extend([""] * 1_000_000)


@pytest.mark.parametrize(
    ("outcome", "reason"),
    [
        (INTERNAL, "INTERNAL"),
        (0.2, "DEADLINE_EXCEEDED"),
        (lack_a_list, "INTERNAL"),
        (have_a_list_too_many, "INTERNAL"),
        (lack_a_score, "INTERNAL"),
        (score_with_nan, "INTERNAL"),
        (have_a_million_empty_ids, "INTERNAL"),
    ],
)
def test_without_a_usable_answer_in_time_there_is_none_and_it_is_counted(outcome: Any, reason: str) -> None:
    metrics = Metrics()
    client = client_of(FakeExternalSource(outcomes=[outcome]), metrics)
    assert run(lambda: propose(client)) is None
    labels = {"source": "editors", "reason": reason}
    assert metrics.registry.get_sample_value("winnow_source_failures_total", labels) == 1
    assert run(lambda: propose(client)) is not None


def test_bytes_that_are_no_message_are_no_answer() -> None:
    class Garbled(FakeExternalSource):
        async def _respond(self, data: bytes, timeout: float) -> bytes:  # noqa: ASYNC109 - as a stub
            return b"\xff" * 9

    assert run(lambda: propose(client_of(Garbled()))) is None


def test_the_time_left_may_be_shorter_than_the_timeout() -> None:
    assert run(lambda: propose(client_of(FakeExternalSource(outcomes=[0.03])), seconds=0.01)) is None


def test_callers_in_a_hurry_do_not_take_a_source_away_from_others() -> None:
    async def main() -> None:
        # Each call takes most of the source's timeout, and more than a caller in a hurry has.
        client = client_of(FakeExternalSource(outcomes=[0.03] * 100, item_ids=["x"]))
        for _ in range(20):
            assert await propose(client, seconds=0.005) is None
        await asyncio.sleep(0.1)
        assert await propose(client) == [["x"], ["x"]]

    asyncio.run(main())


def test_a_source_that_hangs_is_left_alone_even_if_all_callers_are_in_a_hurry() -> None:
    async def main() -> None:
        metrics = Metrics()
        client = client_of(FakeExternalSource(outcomes=[9.0] * 100), metrics)
        labels = {"source": "editors", "reason": "CIRCUIT_OPEN"}
        give_up = asyncio.get_running_loop().time() + 30
        while not metrics.registry.get_sample_value("winnow_source_failures_total", labels):
            assert await propose(client, seconds=0.005) is None
            assert asyncio.get_running_loop().time() < give_up

    asyncio.run(main())


def test_a_source_that_keeps_failing_is_only_probed_until_it_answers_again() -> None:
    metrics = Metrics()
    server = FakeExternalSource(outcomes=[INTERNAL] * 3, item_ids=["x"])
    client = client_of(server, metrics)

    async def main() -> None:
        for _ in range(10):
            assert await propose(client) is None
        assert len(server.requests) == 3
        labels = {"source": "editors", "reason": "CIRCUIT_OPEN"}
        assert metrics.registry.get_sample_value("winnow_source_failures_total", labels) == 7
        give_up = asyncio.get_running_loop().time() + 30
        while (answer := await propose(client)) is None:
            assert asyncio.get_running_loop().time() < give_up
            await asyncio.sleep(0.05)
        assert answer == [["x"], ["x"]]
        assert len(server.requests) == 5  # the probe, and the call that was answered

    asyncio.run(main())
