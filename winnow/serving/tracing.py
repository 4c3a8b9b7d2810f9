"""W3C trace context: every call has a trace id, given by its caller or made here; every log line carries it.

With the optional extra `tracing` installed and an exporter set in the environment, spans go to OpenTelemetry too.
"""

import random
import re
from collections.abc import Sequence
from contextvars import ContextVar
from typing import Any

TRACEPARENT = "traceparent"
_FORM = re.compile(r"00-([0-9a-f]{32})-([0-9a-f]{16})-[0-9a-f]{2}")

_trace_id: ContextVar[str | None] = ContextVar("trace_id", default=None)


def continue_trace(metadata: Sequence[tuple[str, str | bytes]] | None) -> None:
    """Bind the trace of the caller to this call, or begin one."""
    for key, value in metadata or ():
        if key == TRACEPARENT and isinstance(value, str) and (match := _FORM.fullmatch(value)):
            _trace_id.set(match[1])
            return
    _trace_id.set(f"{random.getrandbits(128):032x}")


def trace_metadata() -> tuple[tuple[str, str], ...]:
    """Metadata that carries this call's trace to the next service."""
    trace_id = _trace_id.get()
    if trace_id is None:
        return ()
    return ((TRACEPARENT, f"00-{trace_id}-{random.getrandbits(64):016x}-01"),)


def add_trace_id(_logger: Any, _method: str, event: Any) -> Any:
    """Add the trace id to a log event: a structlog processor."""
    trace_id = _trace_id.get()
    if trace_id is not None:
        event["trace_id"] = trace_id
    return event
