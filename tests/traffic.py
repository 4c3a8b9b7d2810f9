"""Steady traffic whose answers are all kept and checked: what callers see while something happens to the stack."""

import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

from tests.reference import DirectRecommender
from winnow.client import RecommendationRequest, Recommendations, WinnowClient, WinnowError


@dataclass(frozen=True, kw_only=True)
class Call:
    """One call and its outcome."""

    history: list[str]
    started: float
    seconds: float
    answer: Recommendations | None
    error: WinnowError | None


@dataclass
class Traffic:
    """All calls so far."""

    calls: list[Call] = field(default_factory=list)

    def statuses(self) -> Counter[str]:
        return Counter(call.error.code.name if call.error else "OK" for call in self.calls)

    def answers(self) -> list[Recommendations]:
        return [call.answer for call in self.calls if call.answer is not None]

    def wait_for_release(self, release_id: str, timeout_seconds: float = 30) -> None:
        """Wait until a call that ends after this moment is answered from the release: services may use it sooner."""
        position = len(self.calls)
        give_up = time.monotonic() + timeout_seconds
        while not any(call.answer and call.answer.release_id == release_id for call in self.calls[position:]):
            assert time.monotonic() < give_up, f"no answer from {release_id}"
            time.sleep(0.02)


@contextmanager
def steady_traffic(
    target: str,
    histories: list[list[str]],
    callers: int = 3,
    timeout_seconds: float = 2.0,
    pause_seconds: float = 0.0,
    retries: bool = False,
    together: int = 1,
) -> Iterator[Traffic]:
    """Call RecommendItems from several threads until the block ends; each pauses between its calls.

    `together` of them travel in one call of BatchRecommendItems if that is more than 1.

    The client does not retry unless asked to, so that failures which the stack cannot hide show. Traffic without any
    call is an error: it would show nothing.
    """
    traffic = Traffic()
    stop = threading.Event()
    with WinnowClient(target, timeout_seconds=timeout_seconds, retries=retries) as client:

        def call_on(first: int) -> None:
            position = first
            while not stop.is_set():
                asked = [histories[(position + number) % len(histories)] for number in range(together)]
                position += callers * together
                started = time.monotonic()
                for history, outcome in zip(asked, _outcomes(client, asked), strict=True):
                    error = outcome if isinstance(outcome, WinnowError) else None
                    answer = None if isinstance(outcome, WinnowError) else outcome
                    traffic.calls.append(
                        Call(
                            history=history,
                            started=started,
                            seconds=time.monotonic() - started,
                            answer=answer,
                            error=error,
                        )
                    )
                stop.wait(pause_seconds)

        threads = [threading.Thread(target=call_on, args=(number,)) for number in range(callers)]
        for thread in threads:
            thread.start()
        try:
            yield traffic
        finally:
            stop.set()
            for thread in threads:
                thread.join()
        assert traffic.calls, "no call was made"


def _outcomes(client: WinnowClient, histories: list[list[str]]) -> list[Recommendations | WinnowError]:
    if len(histories) > 1:
        return client.recommend_many([RecommendationRequest(history, count=10) for history in histories])
    try:
        return [client.recommend(histories[0], count=10)]
    except WinnowError as error:
        return [error]


def assert_unmixed(traffic: Traffic, releases: Mapping[str, DirectRecommender]) -> None:
    """Every answer equals, item for item and score for score, what the release that it names gives."""
    expected: dict[tuple[str, tuple[str, ...]], list[tuple[str, float]]] = {}
    for call in traffic.calls:
        assert call.error is None, f"{call.error}"
        assert call.answer is not None
        assert not call.answer.degraded, call.answer.degradation.reason
        key = (call.answer.release_id, tuple(call.history))
        if key not in expected:
            expected[key] = releases[call.answer.release_id].recommend(call.history, 10)
        wanted = expected[key]
        assert [item.item_id for item in call.answer.items] == [item_id for item_id, _ in wanted]
        for item, (_, score) in zip(call.answer.items, wanted, strict=True):
            assert abs(item.score - score) < 1e-5
