"""What the images contain and what they do not."""

import json
import tomllib
from typing import Any

import pytest

from tests.compose.stack import IMAGES, ROOT, ComposeStack, docker, report

# Without these, an intruder cannot compile or download anything in a container.
UNWANTED_PROGRAMS = ("cc", "gcc", "g++", "make", "git", "curl", "wget")
MEGABYTE = 1_000_000


def inspect(stack: ComposeStack, name: str) -> Any:
    return json.loads(docker("image", "inspect", stack.image(name)))[0]


def shell(stack: ComposeStack, name: str, command: str) -> str:
    return docker("run", "--rm", "--network=none", stack.image(name), "sh", "-c", command)


@pytest.mark.parametrize("name", IMAGES)
def test_labels_have_title_licence_and_version(images: ComposeStack, name: str) -> None:
    labels = inspect(images, name)["Config"]["Labels"]
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    assert labels["org.opencontainers.image.version"] == version
    assert labels["org.opencontainers.image.title"].startswith("Winnow ")
    assert labels["org.opencontainers.image.licenses"] == "Apache-2.0"
    installed = shell(
        images, name, "python -c 'from importlib.metadata import version; print(version(\"winnow-recommender\"))'"
    )
    assert installed.strip() == version


@pytest.mark.parametrize("name", IMAGES)
def test_an_image_runs_as_an_ordinary_user_without_compilers_or_tests(images: ComposeStack, name: str) -> None:
    assert shell(images, name, "id -u").strip() == "10001"
    assert shell(images, name, f"command -v {' '.join(UNWANTED_PROGRAMS)} || true") == ""
    assert shell(images, name, "ls -d /tests /source /opt/winnow/tests 2>/dev/null || true") == ""
    own = shell(images, name, "ls /opt/winnow").split()
    assert {"winnow", "gateway", "candidate_service", "ranking_service"} <= set(own)


def test_the_gateway_has_no_torch_and_the_services_no_pip(images: ComposeStack) -> None:
    find = "from importlib.util import find_spec as found; print(*filter(found, ('torch', 'polars', 'pip')))"
    found = {name: shell(images, name, f'python -c "{find}"').split() for name in IMAGES}
    assert found == {
        "gateway": [],
        "explorer": [],
        "candidate_service": ["torch"],
        "ranking_service": ["torch"],
        "training": ["torch", "polars", "pip"],
    }


def test_the_gateway_is_small_and_the_stages_share_their_layers(images: ComposeStack) -> None:
    sizes = {name: inspect(images, name)["Size"] / MEGABYTE for name in IMAGES}
    report("image sizes: " + ", ".join(f"{name} {size:.0f} MB" for name, size in sizes.items()))
    assert sizes["gateway"] < 350
    assert inspect(images, "candidate_service")["RootFS"] == inspect(images, "ranking_service")["RootFS"]
