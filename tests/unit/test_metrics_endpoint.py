import time
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, HTTPServer
from threading import Thread

import pytest

from winnow.metrics_endpoint import MAX_METRICS_BYTES, MetricsError, fetch_metrics


def test_an_address_that_does_not_answer_is_named() -> None:
    with pytest.raises(MetricsError, match=r"http://127\.0\.0\.1:1/metrics: .*refused"):
        fetch_metrics("http://127.0.0.1:1/metrics")
    with pytest.raises(MetricsError, match="no http:// or https:// address"):
        fetch_metrics("file:///etc/passwd")


def test_an_answer_other_than_ok_is_named() -> None:
    class Missing(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_error(404)

        def log_message(self, *_arguments: object) -> None:
            """Say nothing."""

    with HTTPServer(("127.0.0.1", 0), Missing) as server:
        Thread(target=server.handle_request, daemon=True).start()
        with pytest.raises(MetricsError, match="Not Found"):
            fetch_metrics(f"http://127.0.0.1:{server.server_port}/metrics")


def test_an_answer_that_is_too_long_is_not_read_to_its_end() -> None:
    class Long(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b"#" * (MAX_METRICS_BYTES + 1))

        def log_message(self, *_arguments: object) -> None:
            """Say nothing."""

    with HTTPServer(("127.0.0.1", 0), Long) as server:
        Thread(target=server.handle_request, daemon=True).start()
        with pytest.raises(MetricsError, match="more than 4194304 bytes"):
            fetch_metrics(f"http://127.0.0.1:{server.server_port}/metrics")


def test_an_answer_that_comes_in_drops_is_given_up() -> None:
    class Dripping(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            with suppress(BrokenPipeError, ConnectionResetError):
                for _ in range(40):
                    self.wfile.write(b"#")
                    time.sleep(0.05)

        def log_message(self, *_arguments: object) -> None:
            """Say nothing."""

    with HTTPServer(("127.0.0.1", 0), Dripping) as server:
        Thread(target=server.handle_request, daemon=True).start()
        with pytest.raises(MetricsError, match="timed out"):
            fetch_metrics(f"http://127.0.0.1:{server.server_port}/metrics", timeout_seconds=0.3)
