"""The page of health: the three services, the releases that they hold, queues and rates."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial

from winnow.client import AsyncWinnowClient, ServiceStatus
from winnow.explorer.failures import Failure, attempt
from winnow.explorer.scrapes import Rates, Scraper
from winnow.explorer.settings import SERVICES, ExplorerSettings
from winnow.metrics_endpoint import MetricsError
from winnow.rpc.credentials import channel_credentials
from winnow.rpc.health import healthy


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceView:
    """One of the three services."""

    service: str
    target: str | None
    """None where the explorer was not told."""
    serving: bool
    """What the gRPC health service says."""
    status: ServiceStatus | Failure | None
    """None where the address is not known."""
    rates: Rates | None
    scrape_problem: str
    """Why there are no rates; empty where there are."""


class HealthLook:
    """Asks all three services how they are."""

    def __init__(
        self,
        clients: Mapping[str, tuple[str, AsyncWinnowClient]],
        scrapers: Mapping[str, Scraper],
        settings: ExplorerSettings,
    ) -> None:
        """`clients` are addresses and clients by service, as far as they are known."""
        self._clients = clients
        self._scrapers = scrapers
        self._timeout_seconds = settings.timeout_seconds
        self._looking: asyncio.Task[list[ServiceView]] | None = None
        self._healthy = partial(
            healthy,
            timeout_seconds=settings.timeout_seconds,
            credentials=channel_credentials(settings.ca_file, None, None),
        )

    async def services(self) -> list[ServiceView]:
        """Ask them at the same time. Whoever comes meanwhile gets the same answer: looking takes threads."""
        if self._looking is None or self._looking.done():
            self._looking = asyncio.create_task(self._look())
        return await asyncio.shield(self._looking)

    async def _look(self) -> list[ServiceView]:
        return list(await asyncio.gather(*map(self._service, SERVICES)))

    async def _service(self, service: str) -> ServiceView:
        target, client = self._clients.get(service, (None, None))
        rates, problem = await self._rates(service)
        if target is None or client is None:
            return ServiceView(
                service=service, target=None, serving=False, status=None, rates=rates, scrape_problem=problem
            )
        serving, status = await asyncio.gather(
            asyncio.to_thread(self._healthy, target),
            attempt(client.status(), target, self._timeout_seconds),
        )
        return ServiceView(
            service=service, target=target, serving=serving, status=status, rates=rates, scrape_problem=problem
        )

    async def _rates(self, service: str) -> tuple[Rates | None, str]:
        scraper = self._scrapers.get(service)
        if scraper is None:
            return None, "No metrics endpoint is given: see --metrics."
        try:
            return await scraper.rates(), ""
        except MetricsError as error:
            return None, str(error)
