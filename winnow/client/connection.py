"""How the clients reach a gateway: channel options and metadata."""

import json
from typing import Any

# Only UNAVAILABLE, so that rejected load is not sent again; throttled, so that retries cannot bury a failing gateway.
_RETRIES = {
    "methodConfig": [
        {
            "name": [{}],
            "retryPolicy": {
                "maxAttempts": 3,
                "initialBackoff": "0.02s",
                "maxBackoff": "0.5s",
                "backoffMultiplier": 3,
                "retryableStatusCodes": ["UNAVAILABLE"],
            },
        }
    ],
    "retryThrottling": {"maxTokens": 10, "tokenRatio": 0.1},
    "loadBalancingConfig": [{"round_robin": {}}],
}


def channel_options(*, retries: bool) -> list[tuple[str, Any]]:
    """Return options for a channel of grpc or grpc.aio."""
    options: list[tuple[str, Any]] = [
        ("grpc.enable_retries", int(retries)),
        # New gateways behind a name are found, and one that was away is tried again, within seconds, not minutes.
        ("grpc.dns_min_time_between_resolutions_ms", 1_000),
        ("grpc.max_reconnect_backoff_ms", 2_000),
    ]
    if retries:
        options.append(("grpc.service_config", json.dumps(_RETRIES)))
    return options


def call_metadata(token: str | None) -> tuple[tuple[str, str], ...]:
    """Return what goes along with every call."""
    return () if token is None else (("authorization", f"Bearer {token}"),)
