import asyncio

from gateway.ranking import RankingStep
from gateway.served_catalogue import ServedCatalogue
from gateway.stage_clients import RankingStageClient
from gateway.steps import Steps
from tests.unit.gateway.stages import FakeRankingStage, caller_of, candidate_request, rows
from winnow.serving.metrics import Metrics


def test_when_time_is_short_a_request_with_many_candidates_gets_no_more_than_others(catalogue: ServedCatalogue) -> None:
    async def main() -> None:
        stage = FakeRankingStage(outcomes=[0.02] * 8)
        client = RankingStageClient(caller_of("ranking", stage), catalogue.release_id)
        step = RankingStep(client, Steps(Metrics()))
        now = asyncio.get_running_loop().time()
        requests = [candidate_request(item_count=1, seconds=9) for _ in range(10)]
        many, few = rows(*range(280)), rows(*range(20))
        for _ in range(8):
            await step.rank(requests, [many, *[few] * 9], now + 9)
        # In half of the time, not even half of the 46 candidates that a request had on average can be ranked.
        in_a_moment = asyncio.get_running_loop().time() + 0.01
        assert len(step.affordable(requests[0], many, in_a_moment)) < 20

    asyncio.run(main())
