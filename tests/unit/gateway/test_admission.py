import asyncio

import pytest

from gateway.admission import check_time, stage_deadline
from gateway.settings import GatewaySettings
from winnow.rpc.errors import OverloadedError

SETTINGS = GatewaySettings(reserve_seconds=0.01, reserve_share=0.05)


@pytest.mark.parametrize(
    ("remaining", "for_stages"),
    [(1.0, 0.95), (0.1, 0.09), (0.02, 0.01), (0.008, 0.004), (0.001, 0.0005)],
)
def test_the_stages_get_what_the_answer_does_not_need_and_half_of_a_short_deadline(
    remaining: float, for_stages: float
) -> None:
    async def main() -> float:
        now = asyncio.get_running_loop().time()
        return stage_deadline(remaining, SETTINGS) - now

    assert asyncio.run(main()) == pytest.approx(for_stages, abs=2e-4)


def test_an_idle_gateway_tries_whatever_the_deadline() -> None:
    async def main() -> None:
        check_time(0.0, deadline=asyncio.get_running_loop().time() + 0.001)

    asyncio.run(main())


def test_what_is_expected_to_take_most_of_the_time_left_is_refused_with_a_hint() -> None:
    async def main() -> None:
        now = asyncio.get_running_loop().time()
        check_time(0.6, deadline=now + 1)
        with pytest.raises(OverloadedError) as refused:
            check_time(0.7, deadline=now + 1)
        assert refused.value.retry_after_seconds == 0.7

    asyncio.run(main())
