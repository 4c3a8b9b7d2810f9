"""The wheel in empty environments: the client alone, and the gateway with its extra."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from zipfile import ZipFile

import pytest

from tests.service.process import wait_until_healthy
from winnow.client import DegradationStep, WinnowClient
from winnow.distribution import NAME
from winnow.serving.local_stack import free_port

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

ROOT = Path(__file__).parents[2]
SOURCES = (
    "CHANGELOG.md", "LICENSE", "MANIFEST.in", "README.md", "candidate_service", "constraints.txt", "gateway", "protos",
    "pyproject.toml", "ranking_service", "setup.py", "winnow",
)  # fmt: skip
IMPORT_SECONDS = 0.5


class Installed:
    """An environment with nothing but the wheel and what pip brought with it."""

    def __init__(self, directory: Path, wheel: Path, extra: str = "") -> None:
        subprocess.run([sys.executable, "-m", "venv", directory], check=True)
        self.bin = directory / "bin"
        self.directory = directory
        self._environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
        requirement = f"{NAME}{extra} @ {wheel.as_uri()}"
        self._environment["PIP_CONSTRAINT"] = str(ROOT / "constraints.txt")
        self.run("pip", "install", "--quiet", "--disable-pip-version-check", requirement)

    def run(self, program: str, *arguments: str) -> str:
        """What a program of the environment prints."""
        done = self.finished(program, *arguments)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def finished(self, program: str, *arguments: str) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            [self.bin / program, *arguments],
            cwd=self.directory,  # not the repository: it would be imported in place of the wheel
            env=self._environment,
            capture_output=True,
            text=True,
            check=False,
        )

    def start(self, program: str, *arguments: str) -> "subprocess.Popen[str]":
        return subprocess.Popen(
            [self.bin / program, *arguments],
            cwd=self.directory,
            env=self._environment,
            stderr=subprocess.PIPE,
            text=True,
        )

    def packages(self) -> set[str]:
        listed = json.loads(self.run("pip", "list", "--format=json", "--disable-pip-version-check"))
        return {package["name"].lower().replace("_", "-") for package in listed}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built by way of the source distribution, from a copy without generated code."""
    source, output = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("dist")
    for name in SOURCES:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("v1", "__pycache__"))
        else:
            shutil.copy(ROOT / name, source / name)
    # The folder of the protos is called v1 too.
    shutil.copytree(ROOT / "protos", source / "protos", dirs_exist_ok=True)
    # This environment has what the build requires, in the versions of constraints.txt.
    build = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(output), str(source)]
    done = subprocess.run(build, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    [built] = output.glob("*.whl")
    assert built.name.startswith("winnow_recommender-")
    assert len(list(output.glob("winnow_recommender-*.tar.gz"))) == 1
    return built


def test_the_explorer_has_its_templates_and_styles(wheel: Path) -> None:
    names = set(ZipFile(wheel).namelist())
    for folder in ("templates", "static"):
        files = {path.relative_to(ROOT).as_posix() for path in (ROOT / "winnow" / "explorer" / folder).iterdir()}
        assert files
        assert files <= names


@pytest.fixture(scope="module")
def client_only(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Installed:
    return Installed(tmp_path_factory.mktemp("client"), wheel)


def test_without_extras_there_is_the_client_and_little_else(client_only: Installed) -> None:
    assert client_only.packages() - {"pip", "setuptools"} == {
        NAME, "googleapis-common-protos", "grpcio", "protobuf", "typing-extensions",
    }  # fmt: skip
    printed = client_only.run(
        "python", "-c", "import winnow.client; print(winnow.client.WinnowClient.__name__, winnow.__file__)"
    )
    assert printed.startswith("WinnowClient ")
    assert str(client_only.directory) in printed


def test_the_client_is_imported_in_half_a_second(client_only: Installed) -> None:
    """Of CPU time, which other work on the machine does not change much, at best: it is compiled the first time."""
    code = "import time, winnow.client; print(time.process_time())"
    seconds = [float(client_only.run("python", "-c", code)) for _ in range(5)]
    assert min(seconds) < IMPORT_SECONDS


@pytest.mark.parametrize(
    ("command", "extra"),
    [
        (["winnow", "--help"], "gateway"),
        (["python", "-m", "gateway"], "gateway"),
        (["python", "-m", "candidate_service"], "serve"),
        (["python", "-m", "ranking_service"], "serve"),
    ],
)
def test_programs_say_which_extra_they_need(client_only: Installed, command: list[str], extra: str) -> None:
    done = client_only.finished(*command)
    assert done.returncode == 1
    assert done.stderr.endswith(f" is not installed: pip install '{NAME}[{extra}]'\n")
    assert done.stderr.count("\n") == 1


def test_with_its_extra_the_gateway_starts_and_its_answers_say_what_is_missing(
    wheel: Path, releases: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    gateway = Installed(tmp_path_factory.mktemp("gateway"), wheel, "[gateway]")
    assert not gateway.packages() & {"torch", "faiss-cpu", "polars", "scipy", "matplotlib", "redis"}
    assert gateway.run("winnow", "--version").startswith("winnow ")
    stage = gateway.finished("python", "-m", "candidate_service")
    assert (stage.returncode, stage.stderr) == (1, f"torch is not installed: pip install '{NAME}[serve]'\n")
    with_users = gateway.finished(
        "python", "-m", "gateway", f"--releases={releases}", "--users-store=redis://localhost"
    )
    assert with_users.returncode == 1
    assert f"pip install '{NAME}[users]'" in with_users.stderr

    ports = {"port": free_port("127.0.0.1"), "nothing": free_port("127.0.0.1")}
    process = gateway.start("python", "-m", "gateway", *gateway_flags(releases, ports))
    try:
        target = f"127.0.0.1:{ports['port']}"
        wait_until_healthy(process, target)
        with WinnowClient(target, timeout_seconds=5) as client:
            answer = client.recommend(["item-0"], count=5)
        assert len(answer.items) == 5
        assert answer.degradation.step is DegradationStep.POPULAR
        assert "candidate: UNAVAILABLE" in answer.degradation.reason
    finally:
        process.kill()
        process.communicate()


def gateway_flags(releases: Path, ports: Mapping[str, int]) -> list[str]:
    nowhere = f"127.0.0.1:{ports['nothing']}"
    return [
        f"--releases={releases}", f"--port={ports['port']}", f"--candidate-target={nowhere}",
        f"--ranking-target={nowhere}", "--stage-wait-seconds=0",
    ]  # fmt: skip
