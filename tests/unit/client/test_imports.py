"""The client is for services that have nothing of Winnow's servers installed."""

import subprocess
import sys

import pytest

# What the extras of pyproject.toml bring. grpcio itself imports grpc_health and the like where they are installed.
OF_THE_EXTRAS = {
    "faiss", "numpy", "polars", "prometheus_client", "pydantic", "pydantic_settings", "rich", "safetensors",
    "structlog", "torch", "typer", "uvloop",
}  # fmt: skip


@pytest.fixture(scope="module")
def imported() -> set[str]:
    """The modules that `import winnow.client` imports."""
    result = subprocess.run(
        [sys.executable, "-c", "import sys, winnow.client; print(*sys.modules)"],
        capture_output=True,
        text=True,
        check=True,
    )
    return set(result.stdout.split())


def test_nothing_of_the_extras_is_imported(imported: set[str]) -> None:
    assert not {name.partition(".")[0] for name in imported} & OF_THE_EXTRAS


def test_nothing_of_the_services_is_imported(imported: set[str]) -> None:
    parts = {name.split(".")[1] for name in imported if name.startswith("winnow.")}
    assert parts == {"batching", "client", "rpc", "throughput", "v1"}
    assert "gateway" not in imported
