"""Structured logs on standard error: JSON for machines, aligned text for people.

Nothing that a caller sent is logged above debug: tracebacks are without the values of variables.
"""

import asyncio
import logging
import sys
import time
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Any, Literal

import structlog

from winnow.serving.tracing import add_trace_id

LogFormat = Literal["human", "json"]
LogLevel = Literal["debug", "info", "warning", "error"]

# Of equal warnings and errors, this many are logged in so long; the next one says how many were not.
EQUAL_EVENTS = 10
EQUAL_EVENTS_SECONDS = 10.0
# What differs between events that say the same.
VARYING_FIELDS = frozenset({"details", "error_id", "exc_info", "stack"})
# Keys are made from a bounded set of events; should they not be, the memory for them is bounded all the same.
MAX_KEYS = 1000


def configure_logs(service: str, log_format: LogFormat, level: LogLevel) -> None:
    """Set up structlog for this process, for what libraries log as well."""
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        add_trace_id,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    renderer: list[structlog.typing.Processor] = (
        [structlog.processors.format_exc_info, structlog.processors.JSONRenderer()]
        if log_format == "json"
        # By default it would print the local variables of every frame: requests, with users' histories.
        else [
            structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty(), exception_formatter=structlog.dev.plain_traceback)
        ]
    )
    threshold = logging.getLevelNamesMapping()[level.upper()]
    structlog.configure(
        processors=[limit_equal_events(), *shared, *renderer],
        wrapper_class=structlog.make_filtering_bound_logger(threshold),
        logger_factory=structlog.WriteLoggerFactory(file=sys.stderr),
        cache_logger_on_first_use=False,
    )
    structlog.contextvars.bind_contextvars(service=service)

    handler = logging.StreamHandler(sys.stderr)
    formatter_chain = [structlog.stdlib.ProcessorFormatter.remove_processors_meta, *renderer]
    handler.setFormatter(structlog.stdlib.ProcessorFormatter(processors=formatter_chain, foreign_pre_chain=shared))
    handler.addFilter(_is_news)
    handler.addFilter(LimitEqualRecords())
    logging.basicConfig(handlers=[handler], level=max(threshold, logging.WARNING), force=True)


@dataclass(slots=True)
class _Window:
    """The events of one key in the current interval."""

    ends_at: float
    logged: int = 0
    suppressed: int = 0


class EqualEvents:
    """Says which of many equal events are logged: EQUAL_EVENTS of them in EQUAL_EVENTS_SECONDS."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._windows: dict[Hashable, _Window] = {}

    def suppressed_before(self, key: Hashable) -> int | None:
        """Return how many events were suppressed since the last one that was logged; None to suppress this one too."""
        now = self._clock()
        window = self._windows.get(key)
        if window is None or now >= window.ends_at:
            if len(self._windows) >= MAX_KEYS:
                self._windows.clear()
            suppressed = window.suppressed if window else 0
            self._windows[key] = _Window(now + EQUAL_EVENTS_SECONDS, logged=1)
            return suppressed
        if window.logged < EQUAL_EVENTS:
            window.logged += 1
            return 0
        window.suppressed += 1
        return None


def limit_equal_events() -> structlog.typing.Processor:
    """Return a processor that drops what EqualEvents suppresses.

    Where a caller was given the event's `error_id`, only the stack is dropped: the id is found in the log.
    """
    equal = EqualEvents()

    def limit(_logger: Any, level: str, event: Any) -> Any:
        if level not in ("warning", "error", "critical"):
            return event
        suppressed = equal.suppressed_before(
            (level, *((name, str(value)) for name, value in event.items() if name not in VARYING_FIELDS))
        )
        if suppressed:
            event["suppressed"] = suppressed
        elif suppressed is None:
            if "error_id" not in event:
                raise structlog.DropEvent
            event.pop("stack", None)
        return event

    return limit


class LimitEqualRecords(logging.Filter):
    """The same for what libraries log, by where they log it."""

    def __init__(self) -> None:
        super().__init__()
        self._equal = EqualEvents()

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether the record is logged."""
        suppressed = self._equal.suppressed_before((record.name, record.levelno, record.pathname, record.lineno))
        if suppressed:
            record.msg = f"{record.msg} (and {suppressed} more like it before)"
        return suppressed is not None


def _is_news(record: logging.LogRecord) -> bool:
    """Whether a library's record says anything: grpc logs an error for each stream that a stopping server cancels."""
    error = record.exc_info[1] if record.exc_info else None
    return not (record.name.startswith("grpc.") and isinstance(error, asyncio.CancelledError))
