"""What libraries log goes the same way, less the noise of streams that a stopping server ends."""

import asyncio
import json
import logging

import pytest
import structlog

from winnow.serving.logs import configure_logs


def test_library_records_are_json_lines_and_cancelled_streams_are_no_news(capsys: pytest.CaptureFixture[str]) -> None:
    root = logging.getLogger()
    before = (root.handlers[:], root.level)
    try:
        configure_logs("test", "json", "info")
        logging.getLogger("some.library").warning("look")
        try:
            raise asyncio.CancelledError
        except asyncio.CancelledError:
            logging.getLogger("grpc._cython.cygrpc").exception("a stream ended with the server")
        try:
            raise ValueError("real")
        except ValueError:
            logging.getLogger("grpc._cython.cygrpc").exception("this is news")
    finally:
        root.handlers[:], root.level = before
        structlog.reset_defaults()
        structlog.contextvars.clear_contextvars()
    events = [json.loads(line)["event"] for line in capsys.readouterr().err.splitlines()]
    assert events == ["look", "this is news"]
