"""Connections from the gateway to the stages: balanced, watched, and renewed when certificates are replaced."""

import asyncio
import json
from collections.abc import Callable

import grpc
import structlog

from gateway.settings import GatewaySettings
from winnow.rpc.credentials import channel_credentials
from winnow.serving.tls import Fingerprint

_log = structlog.get_logger(__name__)


class StageChannels:
    """The channels to both stages."""

    def __init__(self, settings: GatewaySettings) -> None:
        """Open the channels. Raises ValueError where a TLS file cannot be read."""
        self._settings = settings
        self._files = (settings.stage_ca_file, settings.stage_certificate_file, settings.stage_key_file)
        self.candidate, self.ranking = self._open()
        self._state = Fingerprint.of(*self._files)

    async def watch(self, on_renewed: Callable[[], None]) -> None:
        """Look for replaced certificates for ever: open new channels, and close the old ones when they are idle."""
        while True:
            await asyncio.sleep(self._settings.release_poll_seconds)
            try:
                state = Fingerprint.of(*self._files)
                if state == self._state:
                    continue
                old = (self.candidate, self.ranking)
                self.candidate, self.ranking = self._open()
            except (OSError, ValueError) as error:
                _log.warning("certificate cannot be read", reason=str(error))
                continue
            self._state = state
            on_renewed()
            _log.info("certificates of the stage channels replaced")
            for channel in old:
                await channel.close(grace=self._settings.max_timeout_seconds)

    async def close(self) -> None:
        """Close both."""
        await self.candidate.close()
        await self.ranking.close()

    def _open(self) -> tuple[grpc.aio.Channel, grpc.aio.Channel]:
        credentials = channel_credentials(*self._files)
        candidate, ranking = (
            _open_channel(target, credentials, self._settings)
            for target in (self._settings.candidate_target, self._settings.ranking_target)
        )
        return candidate, ranking


def _open_channel(
    target: str, credentials: grpc.ChannelCredentials | None, settings: GatewaySettings
) -> grpc.aio.Channel:
    service_config = {
        "loadBalancingConfig": [{"round_robin": {}}],
        # A replica that is loading or draining says NOT_SERVING and gets no calls.
        "healthCheckConfig": {"serviceName": ""},
    }
    options: list[tuple[str, str | int]] = [
        ("grpc.service_config", json.dumps(service_config)),
        # Retries are the gateway's own: within the deadline and the budget.
        ("grpc.enable_retries", 0),
        ("grpc.max_receive_message_length", settings.max_message_bytes),
        ("grpc.max_send_message_length", settings.max_message_bytes),
        # A peer that is stopped or unplugged is noticed within a few seconds.
        ("grpc.keepalive_time_ms", 2_000),
        ("grpc.keepalive_timeout_ms", 1_000),
        ("grpc.keepalive_permit_without_calls", 1),
        ("grpc.http2.ping_timeout_ms", 1_000),
        ("grpc.http2.max_pings_without_data", 0),
        # A replica that comes back is used again within a second, not after the default backoff of minutes.
        ("grpc.initial_reconnect_backoff_ms", 100),
        ("grpc.min_reconnect_backoff_ms", 500),
        ("grpc.max_reconnect_backoff_ms", 1_000),
        # Names are resolved again at most this often when a connection is lost.
        ("grpc.dns_min_time_between_resolutions_ms", 1_000),
        ("grpc.use_local_subchannel_pool", 1),
    ]
    if credentials is None:
        return grpc.aio.insecure_channel(target, options=options)
    return grpc.aio.secure_channel(target, credentials, options=options)
