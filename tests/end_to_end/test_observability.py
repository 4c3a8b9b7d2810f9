"""Dashboard and alerts against the running services, and against a real Prometheus that scrapes them."""

import shutil
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from benchmarks.prometheus import Prometheus, running_prometheus
from tests.observability import JOBS, names, panels, queries
from tests.releases import item_id
from winnow.client import WinnowClient
from winnow.serving.local_stack import LocalStack

# With a stack that has answered requests, these have data.
EXPECTED_DATA = {
    "Requests", "Failed and refused", "Latency of RecommendItems", "Degraded answers", "Step latency, p99",
    "Step latency, p50", "Queued", "Queue wait, p99", "Calls", "Latency of calls", "Computation, p99", "Queries",
    "Recall at 200", "Full scans", "Candidates left unranked", "Release age", "Releases in use",
    "Releases held and refused", "Loading", "Replicas up", "Calls in flight", "Event loop lag",
}  # fmt: skip


def scraped(port: int) -> str:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
        return str(answer.read().decode())


def test_every_metric_of_rules_and_dashboard_is_exposed_by_the_services(
    stack: LocalStack, metrics_ports: Mapping[str, int]
) -> None:
    assert stack.processes
    wanted = {name for name in names(queries()) if ":" not in name}
    assert len(wanted) > 25
    exposed = set()
    for port in metrics_ports.values():
        for family in text_string_to_metric_families(scraped(port)):
            suffixes = {"counter": ["_total"], "histogram": ["_bucket", "_sum", "_count"]}.get(family.type, [""])
            exposed |= {family.name + suffix for suffix in suffixes}
    assert wanted - exposed == set()


@pytest.fixture
def prometheus(tmp_path: Path, stack: LocalStack, metrics_ports: Mapping[str, int]) -> Iterator[Prometheus]:
    """Scrapes the stack every half second."""
    if shutil.which("prometheus") is None:
        pytest.skip("scraping is NOT tested: there is no prometheus (Debian: apt install prometheus)")
    assert stack.processes
    with running_prometheus(tmp_path, metrics_ports, "500ms") as running:
        yield running


def wait_until(reached: Callable[[], bool], what: str) -> None:
    give_up = time.monotonic() + 60
    while not reached():
        assert time.monotonic() < give_up, f"not within a minute: {what}"
        time.sleep(0.1)


def test_prometheus_scrapes_the_stack_and_answers_every_panel(stack: LocalStack, prometheus: Prometheus) -> None:
    wait_until(lambda: len(prometheus.query("up == 1")) == len(JOBS), "all services are scraped")
    recommended = 'sum(winnow_requests_total{job="gateway", method="RecommendItems", code="OK"})'
    with WinnowClient(stack.gateway_target, timeout_seconds=5) as client:

        def rate_is_seen() -> bool:
            client.recommend([item_id(1), item_id(2)], count=5)
            rate = prometheus.query('job_method:winnow_requests:rate5m{job="gateway", method="RecommendItems"} > 0')
            step = prometheus.query('step:winnow_step_seconds:p99_5m{step="rank"} > 0')
            return bool(rate and step)

        wait_until(rate_is_seen, "the rules see a rate of requests")
        seen = prometheus.query(recommended)
        assert float(seen[0]["value"][1]) > 0
    found = prometheus.get("/api/v1/rules")["groups"]
    states = {rule["name"]: (rule["health"], rule.get("lastError")) for group in found for rule in group["rules"]}
    assert {name: state for name, state in states.items() if state[0] != "ok"} == {}
    firing = [rule["name"] for group in found for rule in group["rules"] if rule.get("state") == "firing"]
    assert firing == []

    def with_data() -> set[str]:
        return {
            panel["title"] for panel in panels() if any(prometheus.query(target["expr"]) for target in panel["targets"])
        }

    # A rate needs two scrapes of the service that it is of.
    wait_until(lambda: with_data() >= EXPECTED_DATA, "every panel shows something")
