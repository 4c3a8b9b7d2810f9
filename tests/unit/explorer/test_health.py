"""The page of health asks the services once for everybody who looks at the same time."""

import asyncio

from tests.unit.client.fake_gateway import FakeGateway
from winnow.client import AsyncWinnowClient
from winnow.explorer.health import HealthLook
from winnow.explorer.settings import ExplorerSettings


def test_people_who_look_at_the_same_time_share_a_look(settings: ExplorerSettings, gateway: FakeGateway) -> None:
    async def run() -> None:
        async with AsyncWinnowClient(gateway.target) as client:
            look = HealthLook({"gateway": (gateway.target, client)}, {}, settings)
            first, *others = await asyncio.gather(*(look.services() for _ in range(20)))
            assert all(other is first for other in others)
            assert await look.services() is not first

    asyncio.run(run())
