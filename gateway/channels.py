"""Connections from the gateway to the stages."""

import json

import grpc

from gateway.settings import GatewaySettings


def open_channel(target: str, settings: GatewaySettings) -> grpc.aio.Channel:
    """Open a channel that balances over all healthy addresses of the target and notices dead peers within seconds."""
    service_config = {
        "loadBalancingConfig": [{"round_robin": {}}],
        # A replica that is loading or draining says NOT_SERVING and gets no calls.
        "healthCheckConfig": {"serviceName": ""},
    }
    return grpc.aio.insecure_channel(
        target,
        options=[
            ("grpc.service_config", json.dumps(service_config)),
            # Retries are the gateway's own: within the deadline and the budget.
            ("grpc.enable_retries", 0),
            ("grpc.max_receive_message_length", settings.max_message_bytes),
            ("grpc.max_send_message_length", settings.max_message_bytes),
            ("grpc.keepalive_time_ms", 10_000),
            ("grpc.keepalive_timeout_ms", 2_000),
            ("grpc.http2.ping_timeout_ms", 2_000),
            # A replica that comes back is used again within a second, not after the default backoff of minutes.
            ("grpc.initial_reconnect_backoff_ms", 100),
            ("grpc.max_reconnect_backoff_ms", 1_000),
            ("grpc.use_local_subchannel_pool", 1),
        ],
    )
