"""Reads the metrics endpoint of a service."""

import time
import urllib.error
import urllib.request

TIMEOUT_SECONDS = 5.0
# A gateway that counts for an experiment with four arms has a few hundred kilobytes.
MAX_METRICS_BYTES = 4 * 2**20
CHUNK_BYTES = 64 * 1024


class MetricsError(ValueError):
    """The metrics of a service cannot be read; the message says which and why."""


def check_address(url: str) -> None:
    """Raise MetricsError where the address is not one of HTTP."""
    if not url.startswith(("http://", "https://")):
        raise MetricsError(f"{url}: is no http:// or https:// address")


def fetch_metrics(url: str, timeout_seconds: float = TIMEOUT_SECONDS) -> str:
    """Return the metrics of one process, in the text format of Prometheus. Raises MetricsError.

    A process that sends a little now and then is given up after twice the time.
    """
    check_address(url)
    give_up = time.monotonic() + timeout_seconds
    content = bytearray()
    try:
        with urllib.request.urlopen(url, timeout=timeout_seconds) as response:  # noqa: S310 - checked above
            while len(content) <= MAX_METRICS_BYTES and (chunk := response.read1(CHUNK_BYTES)):
                content += chunk
                if time.monotonic() > give_up:
                    raise TimeoutError("timed out")
    except (OSError, ValueError) as error:
        reason = error.reason if isinstance(error, urllib.error.URLError) else error
        raise MetricsError(f"{url}: {reason}") from error
    if len(content) > MAX_METRICS_BYTES:
        raise MetricsError(f"{url}: more than {MAX_METRICS_BYTES} bytes")
    return content.decode(errors="replace")
