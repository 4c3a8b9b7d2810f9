"""Connections to the replicas of a stage, one each, which follow its name, its certificates and their health."""

import asyncio
import json
from collections.abc import Sequence
from contextlib import suppress

import grpc
import structlog

from gateway.replicas import Replica, Replicas
from gateway.settings import GatewaySettings
from gateway.targets import Target
from winnow.rpc.credentials import channel_credentials
from winnow.serving.tls import Fingerprint

_log = structlog.get_logger(__name__)

# A name is looked up at once when a connection is lost, but no more often than this.
SHORTEST_LOOK_UP_SECONDS = 1.0


class StageChannels:
    """Keeps a connection to each replica of a stage, from when it is made until it is closed."""

    def __init__(self, target: str, method: str, replicas: Replicas, settings: GatewaySettings) -> None:
        """Open them; `replicas` get the `method` of each. Raises ValueError where a TLS file cannot be read."""
        self._target = Target.parse(target)
        self._method = method
        self._replicas = replicas
        self._settings = settings
        self._files = (settings.stage_ca_file, settings.stage_certificate_file, settings.stage_key_file)
        self._credentials = channel_credentials(*self._files)
        self._fingerprint = Fingerprint.of(*self._files)
        self._channels: dict[Replica, grpc.aio.Channel] = {}
        self._renewed: dict[Replica, grpc.aio.Channel] = {}
        """With the newest certificates, but not connected yet."""
        self._lost = asyncio.Event()
        self._watches: dict[grpc.aio.Channel, asyncio.Task[None]] = {}
        self._closing: dict[grpc.aio.Channel, asyncio.Task[None]] = {}
        self._use(self._target.addresses)
        self._following = [
            asyncio.create_task(self._follow_certificates()),
            *([asyncio.create_task(self._follow_name())] if self._target.host else []),
        ]

    async def close(self) -> None:
        """Close them all."""
        for task in self._following:
            task.cancel()
        await asyncio.gather(*self._following, return_exceptions=True)
        self._replicas.replace(())
        channels = [*self._watches, *self._closing]
        for task in (*self._watches.values(), *self._closing.values()):
            task.cancel()
        await asyncio.gather(*(channel.close() for channel in channels))

    async def _follow_name(self) -> None:
        """Look the name up, for ever: so new replicas are found, however well the old ones do."""
        problem = ""
        while True:
            try:
                self._use(await self._target.resolve())
                problem = ""
            except (OSError, ValueError) as error:
                # The replicas that are known may be fine.
                if str(error) != problem:
                    _log.warning("name of a stage cannot be looked up", name=self._target.authority, reason=str(error))
                problem = str(error)
            await asyncio.sleep(SHORTEST_LOOK_UP_SECONDS)
            with suppress(TimeoutError):
                await asyncio.wait_for(self._lost.wait(), self._settings.stage_lookup_seconds)
            self._lost.clear()

    async def _follow_certificates(self) -> None:
        """Look for replaced files, for ever. A connection is replaced once the one with the new files is there."""
        while True:
            await asyncio.sleep(self._settings.release_poll_seconds)
            try:
                fingerprint = Fingerprint.of(*self._files)
                if fingerprint == self._fingerprint:
                    continue
                self._credentials = channel_credentials(*self._files)
            except (OSError, ValueError) as error:
                _log.warning("certificate cannot be read", reason=str(error))
                continue
            self._fingerprint = fingerprint
            for replica in self._replicas:
                if replica in self._renewed:
                    self._retire(self._renewed.pop(replica))
                channel = self._renewed[replica] = self._open(replica.address)
                self._watches[channel] = asyncio.create_task(self._watch(replica, channel))

    def _use(self, addresses: Sequence[str]) -> None:
        """Connect to what is new among the addresses, and leave what is no longer one of them."""
        known = {replica.address: replica for replica in self._replicas}
        if not addresses or known.keys() == set(addresses):
            return
        replicas = [known.pop(address) if address in known else self._new_replica(address) for address in addresses]
        self._replicas.replace(replicas)
        for gone in known.values():
            for channels in (self._channels, self._renewed):
                if gone in channels:
                    self._retire(channels.pop(gone))

    def _new_replica(self, address: str) -> Replica:
        channel = self._open(address)
        replica = Replica(address, channel.unary_unary(self._method), ready=False)
        self._channels[replica] = channel
        self._watches[channel] = asyncio.create_task(self._watch(replica, channel))
        return replica

    def _open(self, address: str) -> grpc.aio.Channel:
        return _open_channel(address, self._target.authority, self._credentials, self._settings)

    async def _watch(self, replica: Replica, channel: grpc.aio.Channel) -> None:
        """Follow the state of a channel, for ever."""
        while True:
            state = channel.get_state(try_to_connect=True)
            ready = state is grpc.ChannelConnectivity.READY
            if ready and self._renewed.get(replica) is channel:
                old, self._channels[replica] = self._channels[replica], self._renewed.pop(replica)
                replica.ask = channel.unary_unary(self._method)
                self._retire(old)
                _log.info("connected with the new certificates", replica=replica.address)
            if self._channels.get(replica) is channel:
                self._set_ready(replica, ready=ready)
            await channel.wait_for_state_change(state)

    def _set_ready(self, replica: Replica, *, ready: bool) -> None:
        if ready and not replica.ready:
            # It has been restarted, or its network has been mended.
            replica.forgive()
        elif replica.ready and not ready:
            self._lost.set()
        replica.ready = ready

    def _retire(self, channel: grpc.aio.Channel) -> None:
        """Close a channel when its calls in flight have ended."""
        # gRPC does not always wake up who waits for a change of a channel that is closed.
        self._watches.pop(channel).cancel()
        closing = asyncio.create_task(channel.close(grace=self._settings.max_timeout_seconds))
        self._closing[channel] = closing
        closing.add_done_callback(lambda _: self._closing.pop(channel, None))


def _open_channel(
    address: str, authority: str, credentials: grpc.ChannelCredentials | None, settings: GatewaySettings
) -> grpc.aio.Channel:
    service_config = {
        # For the sake of health checks, which gRPC's default policy does not make. An address is one replica.
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
        ("grpc.use_local_subchannel_pool", 1),
    ]
    if authority:
        options.append(("grpc.default_authority", authority))
    if credentials is None:
        return grpc.aio.insecure_channel(address, options=options)
    return grpc.aio.secure_channel(address, credentials, options=options)
