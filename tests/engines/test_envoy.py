"""The overlay `envoy` with a real Envoy in front of the real services: both with the settings of the manifests."""

import os
import signal
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import pytest
import yaml

from tests.manifests import KUBERNETES, environment, named, of_kind, serving_containers
from tests.releases import item_id
from winnow.rpc.credentials import channel_credentials
from winnow.rpc.health import healthy
from winnow.serving.local_stack import free_port
from winnow.v1 import recommendation_pb2, recommendation_pb2_grpc, status_pb2, status_pb2_grpc

pytestmark = pytest.mark.engines

BIN = Path(sys.executable).parent
# By the secrets of the manifests; a certificate for tests has all names.
SECRET_FILES = {"tls.crt": "server.pem", "tls.key": "server.key", "ca.crt": "ca.pem"}
GATEWAY_COUNT = 2
REQUEST = recommendation_pb2.RecommendItemsRequest(
    history=[recommendation_pb2.Watch(item_id=item_id(row)) for row in (3, 7, 12)], item_count=10
)


@pytest.fixture(scope="module", autouse=True)
def needs_tls(transport: str) -> None:
    if transport == "native":
        pytest.skip("the native transport has no TLS")


@pytest.fixture(scope="module")
def secrets(needs_tls: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The mounted secrets: a folder each."""
    made = tmp_path_factory.mktemp("made")
    names = ["localhost", "127.0.0.1", "gateway", "candidate-service", "ranking-service"]
    script = KUBERNETES.parent / "certificates" / "make.sh"
    subprocess.run([script, made, *names], check=True, timeout=60)
    root = tmp_path_factory.mktemp("secrets")
    for folder in ("winnow/tls", "winnow/stage-client", "envoy/edge", "envoy/gateway"):
        (root / folder).mkdir(parents=True)
        for name, file in SECRET_FILES.items():
            source = file.replace("server", "gateway") if folder == "winnow/stage-client" else file
            (root / folder / name).write_bytes((made / source).read_bytes())
    return root


@dataclass(frozen=True)
class Service:
    process: "subprocess.Popen[bytes]"
    target: str


@contextmanager
def service(name: str, releases: Path, secrets: Path, targets: dict[str, str]) -> Iterator[Service]:
    """A service with the variables of its manifest, but for addresses and places of files."""
    (container,) = serving_containers(named("envoy", "Deployment", name))
    port = free_port("127.0.0.1")
    variables = environment(container)
    for variable, value in variables.items():
        if variable.endswith("_FILE"):
            variables[variable] = value.replace("/etc", str(secrets), 1)
        elif variable.endswith("_TARGET"):
            variables[variable] = targets[value.removeprefix("dns:///").partition(":")[0]]
        elif variable.endswith(("_METRICS_PORT", "_RELEASES")):
            variables[variable] = str(releases) if variable.endswith("_RELEASES") else "0"
    module = container["image"].removeprefix("winnow/").partition(":")[0]
    process = subprocess.Popen(
        [sys.executable, "-m", module, f"--port={port}"], env={**os.environ, **variables}, stderr=subprocess.DEVNULL
    )
    try:
        # As the kubelet asks: the command of the probe.
        (own_port,) = [entry["containerPort"] for entry in container["ports"] if entry["name"] == "grpc"]
        probe = [
            word.replace("/etc", str(secrets), 1).replace(f"localhost:{own_port}", f"localhost:{port}")
            for word in container["readinessProbe"]["exec"]["command"]
        ]
        give_up = time.monotonic() + 180
        while subprocess.run([BIN / probe[0], *probe[1:]], capture_output=True, check=False).returncode:
            assert process.poll() is None, f"{name} has ended"
            assert time.monotonic() < give_up, f"{name} is not ready: {probe}"
        yield Service(process, f"127.0.0.1:{port}")
    finally:
        process.kill()
        process.wait()


@dataclass(frozen=True)
class Edge:
    target: str
    operators: str
    admin_port: int
    gateways: list[Service]


@pytest.fixture(scope="module")
def edge(releases: Path, secrets: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Edge]:
    with ExitStack() as running:
        stages = {
            name: running.enter_context(service(name, releases, secrets, {})).target
            for name in ("candidate-service", "ranking-service")
        }
        gateways = [running.enter_context(service("gateway", releases, secrets, stages)) for _ in range(GATEWAY_COUNT)]
        config = tmp_path_factory.mktemp("envoy")
        ports = {port: free_port("127.0.0.1") for port in (8443, 8080, 9901)}
        write_config(config, secrets, ports, gateways)
        (container,) = serving_containers(named("envoy", "Deployment", "envoy"))
        program, *flags = [word.replace("/etc/envoy/config", str(config)) for word in container["command"]]
        validated = subprocess.run([BIN / program, *flags, "--mode", "validate"], capture_output=True, check=False)
        assert validated.returncode == 0, validated.stderr.decode()[-2000:]
        with (config / "log").open("w") as log:
            process = subprocess.Popen([BIN / program, *flags, "--use-dynamic-base-id"], stdout=log, stderr=log)
        running.callback(process.wait)
        running.callback(process.kill)
        give_up = time.monotonic() + 180
        operators = f"http://127.0.0.1:{ports[8080]}"
        while not (is_ready(operators) and healthy_gateways(operators) == GATEWAY_COUNT):
            assert process.poll() is None, (config / "log").read_text()[-2000:]
            assert time.monotonic() < give_up, (config / "log").read_text()[-2000:]
            time.sleep(0.1)
        yield Edge(f"localhost:{ports[8443]}", operators, ports[9901], gateways)


def write_config(directory: Path, secrets: Path, ports: dict[int, int], gateways: list[Service]) -> None:
    """The files of the component, with the addresses and folders of this machine."""
    (data,) = [each["data"] for each in of_kind("envoy", "ConfigMap") if "envoy.yaml" in each["data"]]
    for name, text in data.items():
        replaced = text.replace("/etc/envoy/config", str(directory)).replace("/etc/envoy", str(secrets / "envoy"))
        (directory / name).write_text(replaced)
    config = yaml.safe_load((directory / "envoy.yaml").read_text())

    def replace_ports(node: Any) -> None:
        if isinstance(node, dict):
            if node.get("port_value") in ports:
                node["port_value"] = ports[node["port_value"]]
            for value in node.values():
                replace_ports(value)
        elif isinstance(node, list):
            for value in node:
                replace_ports(value)

    replace_ports(config)
    (cluster,) = [each for each in config["static_resources"]["clusters"] if each["name"] == "gateway"]
    # Where the name of the headless Service has an address for each gateway.
    cluster["load_assignment"]["endpoints"] = [{"lb_endpoints": [
        {"endpoint": {"address": {"socket_address": {
            "address": "127.0.0.1", "port_value": int(gateway.target.rpartition(":")[2]),
        }}}}
        for gateway in gateways
    ]}]  # fmt: skip
    (directory / "envoy.yaml").write_text(yaml.safe_dump(config))


def get(url: str) -> str:
    with urllib.request.urlopen(url, timeout=5) as response:  # noqa: S310 - our own server
        return str(response.read().decode())


def is_ready(operators: str) -> bool:
    try:
        get(f"{operators}/ready")
    except (urllib.error.URLError, OSError):
        return False
    return True


def healthy_gateways(operators: str) -> int:
    lines = get(f"{operators}/metrics").splitlines()
    (value,) = [
        line.split()[-1]
        for line in lines
        if line.startswith("envoy_cluster_membership_healthy{") and 'cluster_name="gateway"' in line
    ]
    return int(value)


@pytest.fixture
def stub(edge: Edge, secrets: Path) -> Iterator[Any]:
    credentials = channel_credentials(secrets / "envoy" / "edge" / "ca.crt", None, None)
    assert credentials is not None
    with grpc.secure_channel(edge.target, credentials) as channel:
        yield recommendation_pb2_grpc.RecommendationServiceStub(channel)


def ask(stub: Any, user: str) -> Any:
    return stub.RecommendItems(REQUEST, timeout=8, metadata=[("x-user-id", user)])


def test_calls_reach_the_services_and_each_user_has_a_limit(stub: Any, edge: Edge) -> None:
    answer = ask(stub, "ann")
    assert len(answer.items) == 10
    codes: Counter[grpc.StatusCode] = Counter()
    for _ in range(60):
        try:
            ask(stub, "greedy")
            codes[grpc.StatusCode.OK] += 1
        except grpc.RpcError as error:
            codes[error.code()] += 1
    assert codes.keys() == {grpc.StatusCode.OK, grpc.StatusCode.RESOURCE_EXHAUSTED}
    assert codes[grpc.StatusCode.OK] >= 20
    # Others are not concerned.
    assert len(ask(stub, "bob").items) == 10
    assert not healthy(edge.target), "plain text is not taken"


def test_what_is_for_operators_is_not_for_callers(edge: Edge, secrets: Path) -> None:
    credentials = channel_credentials(secrets / "envoy" / "edge" / "ca.crt", None, None)
    assert credentials is not None
    with grpc.secure_channel(edge.target, credentials) as channel:
        status = status_pb2_grpc.StatusServiceStub(channel)
        with pytest.raises(grpc.RpcError) as refused:
            status.GetStatus(status_pb2.GetStatusRequest(), timeout=5)
    assert refused.value.code() is grpc.StatusCode.UNIMPLEMENTED


def test_no_call_is_lost_when_a_gateway_is_stopped(stub: Any, edge: Edge) -> None:
    codes: Counter[grpc.StatusCode] = Counter()
    stop = threading.Event()

    def call(caller: int) -> None:
        number = 0
        while not stop.is_set():
            number += 1
            try:
                ask(stub, f"caller-{caller}-{number}")
                codes[grpc.StatusCode.OK] += 1
            except grpc.RpcError as error:
                codes[error.code()] += 1

    callers = [threading.Thread(target=call, args=(number,)) for number in range(4)]
    for caller in callers:
        caller.start()
    edge.gateways[0].process.send_signal(signal.SIGTERM)
    assert edge.gateways[0].process.wait(120) == 0
    stop.set()
    for caller in callers:
        caller.join()
    assert codes.keys() == {grpc.StatusCode.OK}
    assert codes[grpc.StatusCode.OK] > 20


def test_envoy_says_that_it_is_about_to_stop(edge: Edge) -> None:
    """The command that Kubernetes runs before it stops the pod, without the pause."""
    (container,) = serving_containers(named("envoy", "Deployment", "envoy"))
    shell, flag, script = container["lifecycle"]["preStop"]["exec"]["command"]
    command = script.replace("/9901", f"/{edge.admin_port}").replace("sleep 20", "sleep 0.2")
    subprocess.run([shell, flag, command], check=True, timeout=30)
    assert not is_ready(edge.operators)
