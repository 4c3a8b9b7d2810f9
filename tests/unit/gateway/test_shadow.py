"""A shadow is asked after the answer, never more at once than it may be, and only counted."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field

import grpc
import pytest

from gateway.pipeline import Pipeline
from gateway.requests import CandidateRequest
from gateway.served_catalogue import ServedCatalogue
from gateway.served_release import ServedRelease
from gateway.shadow import MAX_IN_FLIGHT, TIMEOUT_SECONDS, Shadow, ShadowedRequest, overlap, rank_correlation
from tests.simulated_time import simulate
from tests.unit.gateway.stages import Chain, candidate_request, status
from winnow.release.experiment import Arm
from winnow.rpc.errors import InvalidRequestError
from winnow.rpc.violations import Violation
from winnow.serving.metrics import Metrics
from winnow.serving.releases import HeldRelease

HANGS = 1e6
# What the chain of these tests answers with for a watch of row 0: its candidates are 1 to 10.
ANSWER_ROWS = (10, 9, 8)


@dataclass
class Asked:
    """A shadow over stages in this process."""

    catalogue: ServedCatalogue
    share: float = 1.0
    held: bool = True
    busy: bool = False
    metrics: Metrics = field(default_factory=Metrics)

    def __post_init__(self) -> None:
        self.chain = Chain(self.catalogue, metrics=self.metrics)
        pipeline: Pipeline = self.chain.pipeline
        stages = {"candidate_stage": None, "ranking_stage": None}
        served = ServedRelease(manifest=None, catalogue=self.catalogue, pipeline=pipeline, **stages)  # type: ignore[arg-type]
        held = HeldRelease(release_id="r2", loaded=served, waits_for="")
        self.shadow = Shadow(
            "trial",
            Arm(name="s", release_id="r2", share=self.share, shadow=True),
            self.metrics,
            lambda: held if self.held else None,
            lambda: self.busy,
        )

    def request(
        self, *answer_rows: int, read: Callable[[ServedCatalogue, float], CandidateRequest] | None = None
    ) -> ShadowedRequest:
        item_ids = self.catalogue.vocabulary.item_ids(list(answer_rows or ANSWER_ROWS))
        return ShadowedRequest(
            read=read or (lambda _catalogue, _deadline: candidate_request(0)), item_ids=item_ids, group=3
        )

    async def outcome(self, request: ShadowedRequest) -> str:
        """Ask, and return what has become of it."""
        before = self.outcomes()
        self.shadow.ask(request)
        await asyncio.sleep(2 * TIMEOUT_SECONDS)
        (changed,) = [name for name, count in self.outcomes().items() if count != before.get(name, 0)]
        return changed

    def outcomes(self) -> dict[str, float]:
        return {
            sample.labels["outcome"]: sample.value
            for family in self.metrics.experiment_shadow_requests.collect()
            for sample in family.samples
            if sample.name.endswith("_total")
        }

    def sampled(self, name: str) -> float:
        value = self.metrics.registry.get_sample_value(name, {"experiment": "trial", "arm": "s", "group": "3"})
        assert value is not None
        return value


def test_equal_answers_overlap_wholly_and_others_less(catalogue: ServedCatalogue) -> None:
    async def main() -> None:
        asked = Asked(catalogue)
        assert await asked.outcome(asked.request()) == "compared"
        assert asked.sampled("winnow_experiment_shadow_overlap_sum") == 1
        assert asked.sampled("winnow_experiment_shadow_rank_correlation_sum") == 1
        assert await asked.outcome(asked.request(9, 10, 200)) == "compared"
        assert asked.sampled("winnow_experiment_shadow_overlap_sum") == pytest.approx(1 + 2 / 3)
        assert asked.sampled("winnow_experiment_shadow_rank_correlation_sum") == 0, "1 and then -1"

    simulate(main)


def test_asking_returns_before_anything_is_asked(catalogue: ServedCatalogue) -> None:
    async def main() -> None:
        asked = Asked(catalogue)
        asked.shadow.ask(asked.request())
        assert not asked.chain.candidate.requests
        await asyncio.sleep(1)
        assert len(asked.chain.candidate.requests) == 1

    simulate(main)


def test_one_that_hangs_is_given_up_and_holds_no_more_than_it_may(catalogue: ServedCatalogue) -> None:
    async def main() -> None:
        asked = Asked(catalogue)
        asked.chain.candidate.outcomes = [HANGS] * 1000
        asked.chain.ranking.outcomes = [HANGS] * 1000
        for _ in range(MAX_IN_FLIGHT + 10):
            asked.shadow.ask(asked.request())
        assert asked.outcomes()["dropped"] == 10
        await asyncio.sleep(2 * TIMEOUT_SECONDS)
        assert asked.outcomes()["degraded"] + asked.outcomes()["failed"] == MAX_IN_FLIGHT
        asked.chain.candidate.outcomes, asked.chain.ranking.outcomes = [], []
        assert await asked.outcome(asked.request()) == "compared", "there is room again"

    simulate(main)


def test_what_goes_wrong_is_counted_and_not_compared(catalogue: ServedCatalogue) -> None:
    def refused(_catalogue: ServedCatalogue, _deadline: float) -> CandidateRequest:
        raise InvalidRequestError([Violation("filter", "no such attribute")])

    def broken(_catalogue: ServedCatalogue, _deadline: float) -> CandidateRequest:
        raise RuntimeError

    async def main() -> None:
        asked = Asked(catalogue)
        assert await asked.outcome(asked.request(read=refused)) == "failed"
        assert await asked.outcome(asked.request(read=broken)) == "failed"
        asked.chain.ranking.outcomes = [status(grpc.StatusCode.INTERNAL)] * 2
        assert await asked.outcome(asked.request()) == "degraded"
        assert asked.sampled("winnow_experiment_shadow_overlap_count") == 0

    simulate(main)


def test_no_shadow_is_asked_while_requests_wait_or_its_release_cannot_be_used(catalogue: ServedCatalogue) -> None:
    async def main() -> None:
        busy = Asked(catalogue, busy=True)
        assert await busy.outcome(busy.request()) == "dropped"
        waiting = Asked(catalogue, held=False)
        assert await waiting.outcome(waiting.request()) == "waiting"
        assert not busy.chain.candidate.requests
        assert not waiting.chain.candidate.requests

    simulate(main)


def test_closing_gives_up_what_is_under_way(catalogue: ServedCatalogue) -> None:
    async def main() -> None:
        asked = Asked(catalogue)
        asked.chain.candidate.outcomes = [HANGS]
        asked.shadow.ask(asked.request())
        await asyncio.sleep(0.1)
        asked.shadow.close()
        await asyncio.sleep(0.1)
        assert not any(asked.outcomes().values())

    simulate(main)


def test_a_share_of_the_requests_is_chosen(catalogue: ServedCatalogue) -> None:
    shadow = Asked(catalogue, share=0.2).shadow
    assert 300 < sum(shadow.chooses() for _ in range(2000)) < 500


def test_overlap_is_of_the_longer_list() -> None:
    assert overlap("abcd", "cdef") == 0.5
    assert overlap("ab", "abcd") == 0.5
    assert overlap("", "") == 1


def test_rank_correlation_is_of_the_items_in_common() -> None:
    assert rank_correlation("abcd", "abcd") == 1
    assert rank_correlation("abcd", "dcba") == -1
    assert rank_correlation("abcd", "xbay") == -1
    assert rank_correlation("abc", "acb") == pytest.approx(1 / 3)
    assert rank_correlation("abc", "axy") is None
