"""The images, a small release that the `train` service trains on real data, and the stack that serves it."""

import functools
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import polars as pl
import pytest

from tests.compose.stack import ROOT, ComposeStack, docker, run
from tests.reference import DirectRecommender
from winnow.serving.local_stack import is_free

USER_COUNT = 300
GATEWAY_PORT_COUNT = 10
# Always the same port, because the builder's cache depends on the address.
WHEEL_PORT = 18_765


@pytest.fixture(scope="session")
def images() -> Iterator[ComposeStack]:
    """The stack with its images built and nothing running. Everything that belongs to it is removed at the end."""
    stack = ComposeStack(f"winnow-test-{os.getpid()}", free_port_range())
    try:
        with package_source() as settings:
            stack.build(**settings)
        yield stack
    finally:
        stack.remove()


@pytest.fixture(scope="session")
def log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A log with the first few hundred users of MovieLens-1M."""
    data = ROOT / "data"
    run([sys.executable, "-m", "winnow.cli", "data", "movielens-1m", "--directory", str(data)])
    ratings = pl.read_parquet(data / "movielens-1m" / "interactions.parquet")
    users = ratings["user_id"].unique(maintain_order=True).head(USER_COUNT)
    directory = tmp_path_factory.mktemp("log")
    ratings.filter(pl.col("user_id").is_in(users.implode())).write_parquet(directory / "log.parquet")
    # The user in the container is not the user who runs the tests.
    directory.chmod(0o755)
    return directory


@pytest.fixture(scope="session")
def histories(log: Path) -> list[list[str]]:
    """The watch histories of some of its users."""
    by_user = pl.read_parquet(log / "log.parquet").group_by("user_id", maintain_order=True).agg("item_id")
    return [history[:40] for history in by_user["item_id"].head(20).to_list()]


@pytest.fixture(scope="session")
def stack(images: ComposeStack, log: Path) -> ComposeStack:
    """The stack with a release in its volume, trained by the `train` service on the mounted log. Nothing runs yet."""
    images.compose(
        "run", "--rm", f"--volume={log / 'log.parquet'}:/log.parquet:ro", "train",
        "winnow", "train", "--interactions=/log.parquet", "--releases=/releases", "--checkpoints=/runs/test",
        "--candidate-epochs=1", "--ranking-epochs=1", "--threads=1", "--publish=always",
    )  # fmt: skip
    return images


@pytest.fixture(scope="session")
def direct(stack: ComposeStack, tmp_path_factory: pytest.TempPathFactory) -> DirectRecommender:
    """The plain computation on a copy of the release that the stack serves."""
    stack.up()
    copy = tmp_path_factory.mktemp("releases")
    docker("cp", f"{stack.containers('gateway')[0].container_id}:/releases/.", str(copy))
    return DirectRecommender(copy)


@contextmanager
def package_source() -> Iterator[dict[str, str]]:
    """Settings for the build: serve the folder of wheels that pip on this machine is configured with, if any."""
    found = subprocess.run(
        [sys.executable, "-m", "pip", "config", "get", "global.find-links"], capture_output=True, text=True, check=False
    )
    folder = Path(os.environ.get("PIP_FIND_LINKS") or found.stdout.strip() or "/nonexistent")
    if not folder.is_dir():
        yield {}
        return
    handler = functools.partial(SimpleHTTPRequestHandler, directory=str(folder))
    with ThreadingHTTPServer(("127.0.0.1", WHEEL_PORT), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        settings = {
            "WINNOW_PIP_FIND_LINKS": f"http://127.0.0.1:{WHEEL_PORT}/",
            "WINNOW_BUILD_NETWORK": "host",
        }
        if next(folder.glob("torch-*+cpu-*.whl"), None):
            settings["WINNOW_TORCH_BUILD"] = "cpu"
        try:
            yield settings
        finally:
            server.shutdown()


def free_port_range() -> str:
    """Return adjacent ports that were free a moment ago, in the form that compose reads."""
    for first in range(20_000, 30_000, GATEWAY_PORT_COUNT):
        ports = range(first, first + GATEWAY_PORT_COUNT)
        if all(is_free("127.0.0.1", port) for port in ports):
            return f"{ports[0]}-{ports[-1]}"
    raise AssertionError("no free ports")
