"""Fixtures that several kinds of tests share."""

import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import pytest
import torch

from tests.releases import write_random_release
from winnow.serving.local_stack import LocalStack, StackSettings, free_port


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--transport", choices=("grpc", "native"), default="grpc", help="the server in all services that tests start"
    )


def pytest_configure(config: pytest.Config) -> None:
    for service in ("GATEWAY", "CANDIDATE", "RANKING"):
        os.environ[f"WINNOW_{service}_TRANSPORT"] = config.getoption("--transport")


@pytest.fixture(scope="session")
def transport(request: pytest.FixtureRequest) -> str:
    """What the services of this run listen with."""
    return str(request.config.getoption("--transport"))


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> None:
    """Threads of a computation wait for each other by spinning: beside other processes that is many times slower."""
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def releases(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with one release of untrained networks."""
    directory = tmp_path_factory.mktemp("releases")
    write_random_release(directory)
    return directory


@pytest.fixture(scope="session")
def metrics_ports() -> Mapping[str, int]:
    """Where the services of `stack` have their metrics."""
    return {service: free_port("127.0.0.1") for service in ("candidate_service", "ranking_service", "gateway")}


@pytest.fixture(scope="session")
def stack(releases: Path, metrics_ports: Mapping[str, int]) -> Iterator[LocalStack]:
    """The three services as processes, serving that release."""
    flags = {service: [f"--metrics-port={port}"] for service, port in metrics_ports.items()}
    with local_stack(releases, **flags) as running:
        yield running


def local_stack(releases: Path, **flags: Sequence[str]) -> LocalStack:
    """The three services on free ports, with further flags by service, or of `all`.

    They do not pause on stopping: nobody needs to turn away in a test.
    """
    for_all = ["--drain-seconds=0", "--default-timeout-seconds=5", *flags.get("all", ())]
    return LocalStack(StackSettings(releases=releases, flags={**flags, "all": for_all}))
