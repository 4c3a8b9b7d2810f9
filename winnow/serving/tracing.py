"""W3C trace context: every call has a trace id, from its caller or made here, and every log line carries it.

With the `tracing` setting on and the extra of that name installed, spans go to OpenTelemetry too. Both are bound to the
context of the call, so that no code has to hand them down.
"""

import random
import re
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from contextvars import ContextVar
from typing import Any

Metadata = Sequence[tuple[str, str | bytes]]

TRACEPARENT = "traceparent"
_FORM = re.compile(r"00-([0-9a-f]{32})-([0-9a-f]{16})-[0-9a-f]{2}")


class Spans:
    """Continues or makes trace ids and passes them on; records nothing, which a subclass may do."""

    def serving(self, method: str, metadata: Metadata) -> AbstractContextManager[None]:
        """A span for answering a call; it continues the trace that the metadata carries, if any."""
        _trace_id.set(_given_trace_id(metadata) or f"{random.getrandbits(128):032x}")
        return nullcontext()

    def calling(self, name: str, attributes: Mapping[str, int | str]) -> AbstractContextManager[None]:
        """A span for an outgoing call, a child of the current one."""
        return nullcontext()

    def trace_id(self) -> str:
        """The id of the current trace."""
        return _trace_id.get() or ""

    def metadata(self) -> tuple[tuple[str, str], ...]:
        """Metadata that carries the current span to the next service."""
        trace_id = self.trace_id()
        return ((TRACEPARENT, f"00-{trace_id}-{random.getrandbits(64):016x}-01"),) if trace_id else ()


_trace_id: ContextVar[str | None] = ContextVar("trace_id", default=None)
_spans: ContextVar[Spans | None] = ContextVar("spans", default=None)


def serving(spans: Spans, method: str, metadata: Metadata) -> AbstractContextManager[None]:
    """Bind `spans` to this call and begin its span."""
    _spans.set(spans)
    return spans.serving(method, metadata)


def calling(name: str, **attributes: int | str) -> AbstractContextManager[None]:
    """A span for a call made on behalf of the call that is served; nothing outside of one."""
    spans = _spans.get()
    return nullcontext() if spans is None else spans.calling(name, attributes)


def outgoing_metadata() -> tuple[tuple[str, str], ...]:
    """Metadata that carries the trace of the call that is served to the next service; empty outside of one."""
    spans = _spans.get()
    return () if spans is None else spans.metadata()


def add_trace_id(_logger: Any, _method: str, event: Any) -> Any:
    """Add the trace id to a log event: a structlog processor."""
    spans = _spans.get()
    if spans is not None:
        event["trace_id"] = spans.trace_id()
    return event


def _given_trace_id(metadata: Metadata) -> str | None:
    for key, value in metadata:
        if key == TRACEPARENT and isinstance(value, str) and (match := _FORM.fullmatch(value)):
            return match[1]
    return None
