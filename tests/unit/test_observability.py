"""Rules, alerts, dashboard and collector of deploy/observability fit together and to the documentation."""

import re
import shutil
import subprocess
from itertools import combinations
from typing import Any

import pytest

from tests.observability import DIRECTORY, PROMETHEUS, ROOT, dashboard, names, panels, queries, read, recorded, rules
from tests.unit.test_docs import anchors

OPERATIONS = ROOT / "docs" / "operations.md"
ALERTS = rules("alerts.yml")


@pytest.mark.parametrize(
    "command",
    [
        "check rules recording_rules.yml alerts.yml",
        "check config prometheus.yml",
        "test rules alerts_test.yml",
    ],
)
def test_promtool_agrees(command: str) -> None:
    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.skip("rules and alerts are NOT tested: there is no promtool (Debian: apt install prometheus)")
    done = subprocess.run([promtool, *command.split()], cwd=PROMETHEUS, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("alert", ALERTS, ids=lambda alert: alert["alert"])
def test_an_alert_has_a_severity_and_a_runbook(alert: dict[str, Any]) -> None:
    assert alert["labels"]["severity"] in {"page", "ticket"}
    page, _, anchor = alert["annotations"]["runbook_url"].partition("#")
    assert ROOT / page == OPERATIONS
    assert anchor == alert["alert"].lower()
    assert anchor in anchors(OPERATIONS)


def test_every_alert_is_tested_firing_and_silent() -> None:
    cases = [case for test in read(PROMETHEUS / "alerts_test.yml")["tests"] for case in test["alert_rule_test"]]
    all_of_them = {alert["alert"] for alert in ALERTS}
    assert {case["alertname"] for case in cases if case["exp_alerts"]} == all_of_them
    assert {case["alertname"] for case in cases if not case["exp_alerts"]} == all_of_them


def test_every_recorded_metric_that_is_named_is_recorded_and_the_other_way_round() -> None:
    assert {name for name in names(queries()) if ":" in name} == recorded()


def test_panels_do_not_overlap_and_use_the_chosen_data_source() -> None:
    assert len({panel["id"] for panel in dashboard()["panels"]}) == len(dashboard()["panels"])
    for one, other in combinations((panel["gridPos"] for panel in dashboard()["panels"]), 2):
        beside = one["x"] + one["w"] <= other["x"] or other["x"] + other["w"] <= one["x"]
        assert beside or one["y"] + one["h"] <= other["y"] or other["y"] + other["h"] <= one["y"]
    for panel in panels():
        assert panel["description"]
        assert {target["datasource"]["uid"] for target in panel["targets"]} == {"${datasource}"}
    [chosen] = dashboard()["templating"]["list"]
    [provisioned] = read(DIRECTORY / "grafana/provisioning/datasources/prometheus.yml")["datasources"]
    assert chosen["current"]["value"] == provisioned["uid"]


def test_the_dashboard_has_a_row_for_each_part_of_the_path() -> None:
    rows = [panel["title"] for panel in dashboard()["panels"] if panel["type"] == "row"]
    assert rows == ["Callers", "Gateway", "Candidate service", "Ranking service", "Users", "Releases and processes"]


def test_the_collector_has_what_its_pipelines_name() -> None:
    collector = read(DIRECTORY / "collector.yml")
    for pipeline in collector["service"]["pipelines"].values():
        for kind in ("receivers", "processors", "exporters"):
            assert set(pipeline[kind]) <= set(collector[kind])


def test_compose_starts_pinned_images_with_files_that_exist_and_only_on_demand() -> None:
    services = read(ROOT / "docker-compose.yml")["services"]
    observing = {name: service for name, service in services.items() if service.get("profiles") == ["observability"]}
    assert set(observing) == {"prometheus", "grafana", "collector"}
    for service in observing.values():
        assert re.search(r":v?\d+\.\d+\.\d+$", service["image"])
        assert all(port.startswith("127.0.0.1:") for port in service.get("ports", []))
        mounted = [volume.split(":")[0] for volume in service["volumes"] if volume.startswith("./")]
        assert mounted
        assert all((ROOT / path).exists() for path in mounted)


def test_prometheus_scrapes_the_services_of_compose_on_their_metrics_port() -> None:
    services = read(ROOT / "docker-compose.yml")["services"]
    for job in read(PROMETHEUS / "prometheus.yml")["scrape_configs"]:
        [discovery] = job["dns_sd_configs"]
        assert discovery["names"] == [job["job_name"]]
        environment = services[job["job_name"]]["environment"]
        assert discovery["port"] in environment.values()
