"""Structured logs on standard error: JSON for machines, aligned text for people."""

import asyncio
import logging
import sys
from typing import Literal

import structlog

from winnow.serving.tracing import add_trace_id

LogFormat = Literal["human", "json"]
LogLevel = Literal["debug", "info", "warning", "error"]


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
        else [structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())]
    )
    threshold = logging.getLevelNamesMapping()[level.upper()]
    structlog.configure(
        processors=[*shared, *renderer],
        wrapper_class=structlog.make_filtering_bound_logger(threshold),
        logger_factory=structlog.WriteLoggerFactory(file=sys.stderr),
        cache_logger_on_first_use=False,
    )
    structlog.contextvars.bind_contextvars(service=service)

    handler = logging.StreamHandler(sys.stderr)
    formatter_chain = [structlog.stdlib.ProcessorFormatter.remove_processors_meta, *renderer]
    handler.setFormatter(structlog.stdlib.ProcessorFormatter(processors=formatter_chain, foreign_pre_chain=shared))
    handler.addFilter(_is_news)
    logging.basicConfig(handlers=[handler], level=max(threshold, logging.WARNING), force=True)


def _is_news(record: logging.LogRecord) -> bool:
    """Whether a library's record says anything: grpc logs an error for each stream that a stopping server cancels."""
    error = record.exc_info[1] if record.exc_info else None
    return not (record.name.startswith("grpc.") and isinstance(error, asyncio.CancelledError))
