"""The stack of docker-compose.yml: its services, their containers and their call counters."""

import json
import os
import re
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
SERVICES = ("candidate_service", "ranking_service", "gateway")
IMAGES = (*SERVICES, "explorer", "training")
GATEWAY_PORT = 50050
METRICS_PORT = 9464
# The stack has to notice a new, lost or recovered replica within this time.
SECONDS_TO_ADAPT = 20.0
# Until a container is healthy while the machine starts several at once.
START_SECONDS = 120.0

# Number of finished calls by method and status, in the Prometheus text format.
_REQUESTS = re.compile(r'^winnow_requests_total\{code="(\w+)",method="([^"]+)"\} (\S+)$', re.MULTILINE)
_READ_METRICS = (
    f"import urllib.request; print(urllib.request.urlopen('http://localhost:{METRICS_PORT}/metrics').read().decode())"
)


@dataclass(frozen=True)
class Container:
    """One container of the stack."""

    container_id: str

    def inspect(self) -> Any:
        """Return the output of `docker inspect`."""
        return json.loads(docker("inspect", self.container_id))[0]

    @property
    def healthy(self) -> bool:
        state = self.inspect()["State"]
        return bool(state["Running"] and state["Health"]["Status"] == "healthy")

    @property
    def exit_status(self) -> int:
        return int(self.inspect()["State"]["ExitCode"])

    def address(self, port: int) -> str:
        """Return the address at which a port of the container is published."""
        (binding,) = self.inspect()["NetworkSettings"]["Ports"][f"{port}/tcp"]
        return f"{binding['HostIp']}:{binding['HostPort']}"

    def python(self, code: str) -> str:
        """Run Python code inside the container and return what it prints."""
        return self.execute("python", "-c", code)

    def execute(self, *command: str) -> str:
        """Run a command inside the container and return what it prints."""
        return docker("exec", self.container_id, *command)

    def logs(self) -> str:
        """Return its log."""
        result = subprocess.run(
            ["docker", "logs", self.container_id], capture_output=True, text=True, timeout=60, check=True
        )
        return result.stdout + result.stderr

    def call_count(self, method: str) -> int:
        """Return how many calls of the method the container has answered with OK since it started."""
        return sum(
            int(float(value))
            for code, name, value in _REQUESTS.findall(self.python(_READ_METRICS))
            if code == "OK" and name.rsplit("/", 1)[-1] == method
        )

    def kill(self) -> None:
        """Kill it, like a crash of its machine."""
        docker("kill", self.container_id)

    def stop(self) -> float:
        """Send SIGTERM, wait until it ends and return how many seconds that took."""
        started = time.monotonic()
        docker("stop", self.container_id)
        return time.monotonic() - started

    def start(self) -> None:
        """Start it again."""
        docker("start", self.container_id)


class ComposeStack:
    """docker-compose.yml with its own project name, image tag and ports."""

    def __init__(self, name: str, gateway_ports: str) -> None:
        self._name = name
        self._environment = {
            **os.environ,
            "COMPOSE_PROJECT_NAME": name,
            "WINNOW_TAG": name,
            "WINNOW_GATEWAY_PORT": gateway_ports,
            "WINNOW_HEALTH_INTERVAL": "4s",
        }

    def compose(self, *arguments: str, timeout_seconds: float = 300, **environment: str) -> str:
        """Run compose: v2, docker's plug-in, or else 1.29."""
        return run([*_compose_command(), *arguments], {**self._environment, **environment}, timeout_seconds)

    def build(self, **settings: str) -> None:
        """Build all images. The settings are variables of docker-compose.yml."""
        # One after another: they share most of their stages, which all but the first then get from the cache.
        for service in ("gateway", "explorer", "candidate_service", "ranking_service", "train"):
            self.compose("build", service, timeout_seconds=900, **settings)

    def up(self, **replicas: int) -> None:
        """Run these numbers of replicas, one for services not named, and return when all are healthy."""
        scales = [f"--scale={service}={replicas.get(service, 1)}" for service in SERVICES]
        self.compose("up", "--detach", "--no-build", "--no-recreate", *scales)
        wait_until(
            lambda: all(
                len(self.containers(service)) == replicas.get(service, 1)
                and all(container.healthy for container in self.containers(service))
                for service in SERVICES
            ),
            "every container is healthy",
            START_SECONDS,
        )

    def remove(self) -> None:
        """Remove containers, networks, volumes and images."""
        self.compose("down", "--volumes", "--remove-orphans", "--timeout=5")
        for image in IMAGES:
            if docker("image", "ls", "--quiet", self.image(image)):
                docker("image", "rm", self.image(image))

    def image(self, name: str) -> str:
        """Return the tag of an image by the name of its target in the Dockerfile."""
        return f"winnow/{name}:{self._name}"

    def containers(self, service: str) -> list[Container]:
        """Return the running containers of a service, in no particular order."""
        labels = (f"com.docker.compose.project={self._name}", f"com.docker.compose.service={service}")
        filters = [f"--filter=label={label}" for label in labels]
        return [Container(line) for line in docker("ps", "--quiet", "--no-trunc", *filters).split()]

    @property
    def target(self) -> str:
        """The addresses of all gateways as one gRPC target."""
        return "ipv4:" + ",".join(gateway.address(GATEWAY_PORT) for gateway in self.containers("gateway"))


def wait_until(condition: Callable[[], bool], what: str, timeout_seconds: float = SECONDS_TO_ADAPT) -> float:
    """Wait for the condition and return how many seconds it took. Fails after the timeout."""
    started = time.monotonic()
    while not condition():
        assert time.monotonic() - started < timeout_seconds, f"not within {timeout_seconds:g} seconds: {what}"
        time.sleep(0.25)
    return time.monotonic() - started


def report(line: str) -> None:
    """Print a figure for readers of the test output."""
    print(f"\n{line}", end="")  # noqa: T201


def docker(*arguments: str) -> str:
    """Run the docker command and return what it prints."""
    return run(["docker", *arguments])


def run(command: Sequence[str], environment: Mapping[str, str] | None = None, timeout_seconds: float = 300) -> str:
    """Run a command at the root of the repository. If it fails, raise with its output."""
    result = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=timeout_seconds, check=False
    )
    if result.returncode != 0:
        output = (result.stdout + result.stderr)[-4000:]
        raise AssertionError(f"{' '.join(command)} ended with exit status {result.returncode}:\n{output}")
    return result.stdout


def _compose_command() -> list[str]:
    plug_in = subprocess.run(["docker", "compose", "version"], capture_output=True, check=False)
    return ["docker", "compose"] if plug_in.returncode == 0 else ["docker-compose"]
