"""The sources beside the network that the gateway's settings ask for."""

from collections.abc import Sequence

import structlog

from gateway.served_catalogue import ServedCatalogue
from gateway.settings import GatewaySettings
from gateway.sources.external import ExternalSource, ProposingClient
from gateway.sources.fresh import FreshSource, NewestRows
from gateway.sources.proposed import Source
from gateway.sources.trending import TrendingSource
from winnow.catalogue.value_columns import TimestampColumn
from winnow.serving.metrics import Metrics

_log = structlog.get_logger(__name__)


def configured_sources(
    catalogue: ServedCatalogue,
    settings: GatewaySettings,
    external: Sequence[ProposingClient],
    metrics: Metrics,
) -> list[Source]:
    """Return them for one release. One that the release has nothing for is left out, and the log says so."""
    sources: list[Source] = []
    if settings.trending_count:
        sources.append(TrendingSource(catalogue, settings.trending_count, metrics))
    if settings.fresh_count and settings.fresh_attribute is not None:
        moments = _moments(catalogue, settings.fresh_attribute)
        if moments is not None:
            sources.append(FreshSource(NewestRows(moments.values), settings.fresh_count, catalogue, metrics))
    sources += [ExternalSource(client, catalogue, metrics) for client in external]
    return sources


def _moments(catalogue: ServedCatalogue, attribute: str) -> TimestampColumn | None:
    reason = f"there is no attribute {attribute}"
    if attribute in catalogue.attributes:
        column = catalogue.attributes[attribute]
        if isinstance(column, TimestampColumn):
            return column
        reason = f"attribute {attribute} is a {column.type}"
    _log.warning("no item is known to be fresh", release_id=catalogue.release_id, reason=reason)
    return None
