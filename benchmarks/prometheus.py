"""A Prometheus with the rules of deploy/observability that scrapes services on this machine."""

import contextlib
import json
import shutil
import subprocess
import time
import urllib.parse
import urllib.request
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from winnow.serving.local_stack import free_port

CONFIGURATION = Path(__file__).parents[1] / "deploy" / "observability" / "prometheus"
START_SECONDS = 60.0


class Prometheus:
    """The API of a running one."""

    def __init__(self, port: int) -> None:
        self._port = port

    def get(self, path: str, **parameters: str) -> Any:
        """Return the data of an answer. Raises OSError where there is none, or where it is an error."""
        address = f"http://127.0.0.1:{self._port}{path}?{urllib.parse.urlencode(parameters)}"
        with urllib.request.urlopen(address, timeout=10) as answer:
            return json.load(answer)["data"]

    def query(self, expression: str) -> list[Any]:
        """Return the series that an expression has now."""
        found: list[Any] = self.get("/api/v1/query", query=expression)["result"]
        return found

    def query_range(self, expression: str, start: float, end: float, step_seconds: float) -> list[Any]:
        """Return the series of an expression between two times, in seconds since 1970."""
        found: list[Any] = self.get(
            "/api/v1/query_range", query=expression, start=str(start), end=str(end), step=str(step_seconds)
        )["result"]
        return found

    def ready(self) -> bool:
        """Whether it answers."""
        with (
            contextlib.suppress(OSError),
            urllib.request.urlopen(f"http://127.0.0.1:{self._port}/-/ready", timeout=10),
        ):
            return True
        return False


@contextlib.contextmanager
def running_prometheus(
    directory: Path, metrics_ports: Mapping[str, int], scrape_interval: str, rate_window: str = "5m"
) -> Iterator[Prometheus]:
    """Run Prometheus below `directory` with the configuration of deploy/observability.

    Differing from it, the services are on this machine, at `metrics_ports`, and scraped each `scrape_interval`; rules
    take rates over `rate_window`. Raises FileNotFoundError where it is not installed, RuntimeError where it cannot
    start.
    """
    program = shutil.which("prometheus")
    if program is None:
        raise FileNotFoundError("there is no prometheus (Debian: apt install prometheus)")
    copied = directory / "configuration"
    shutil.copytree(CONFIGURATION, copied)
    settings = yaml.safe_load((copied / "prometheus.yml").read_text())
    names = ("scrape_interval", "scrape_timeout", "evaluation_interval")
    settings["global"] = dict.fromkeys(names, scrape_interval)
    for job in settings["scrape_configs"]:
        del job["dns_sd_configs"]
        job["static_configs"] = [{"targets": [f"127.0.0.1:{metrics_ports[job['job_name']]}"]}]
    (copied / "prometheus.yml").write_text(yaml.safe_dump(settings))
    rules = copied / "recording_rules.yml"
    rules.write_text(rules.read_text().replace("[5m]", f"[{rate_window}]"))
    port = free_port("127.0.0.1")
    with (directory / "prometheus.log").open("w") as log:
        process = subprocess.Popen(
            [
                program,
                "--config.file=configuration/prometheus.yml",
                "--storage.tsdb.path=data",
                f"--web.listen-address=127.0.0.1:{port}",
            ],
            cwd=directory,
            stdout=log,
            stderr=log,
        )
    try:
        prometheus = Prometheus(port)
        give_up = time.monotonic() + START_SECONDS
        while not prometheus.ready():
            if process.poll() is not None or time.monotonic() > give_up:
                raise RuntimeError(f"Prometheus does not start: {(directory / 'prometheus.log').read_text()}")
            time.sleep(0.1)
        yield prometheus
    finally:
        process.terminate()
        process.wait()
