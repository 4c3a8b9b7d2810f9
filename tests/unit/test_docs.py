"""The documentation names every setting, every RPC and every folder that there is."""

from pathlib import Path

import pytest

from candidate_service.settings import CandidateSettings
from gateway.settings import GatewaySettings
from ranking_service.settings import RankingSettings
from winnow.serving.metrics import Metrics
from winnow.serving.settings import ServerSettings

ROOT = Path(__file__).parents[2]
OPERATIONS = (ROOT / "docs" / "operations.md").read_text()


@pytest.mark.parametrize("settings", [CandidateSettings, RankingSettings, GatewaySettings])
def test_every_setting_is_in_the_operations_page(settings: type[ServerSettings]) -> None:
    prefix = settings.model_config["env_prefix"]
    for name, field in settings.model_fields.items():
        assert field.description, f"{settings.__name__}.{name} has no documentation"
        row = f"| `{prefix}{name.upper()}` | `--{name.replace('_', '-')}` | `{field.default}` | {field.description} |"
        assert row in OPERATIONS, f"docs/operations.md lacks the row: {row}"


def test_every_metric_is_in_the_operations_page() -> None:
    for metric in Metrics().registry.collect():
        name = f"{metric.name}_total" if metric.type == "counter" else metric.name
        assert f"| `{name}` | {metric.type} |" in OPERATIONS
        assert metric.documentation in OPERATIONS


@pytest.mark.parametrize("name", ["recommendation", "catalogue", "candidate", "ranking", "status"])
def test_every_rpc_is_in_the_architecture_page(name: str) -> None:
    import importlib

    descriptor = importlib.import_module(f"winnow.v1.{name}_pb2").DESCRIPTOR
    architecture = (ROOT / "docs" / "architecture.md").read_text()
    for service in descriptor.services_by_name.values():
        for method in service.methods:
            assert f"`{method.name}`" in architecture


def test_links_in_the_pages_lead_somewhere() -> None:
    import re

    for page in [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").rglob("*.md")]:
        for target in re.findall(r"\]\((?!https?:|#)([^)#]+)", page.read_text()):
            assert (page.parent / target).exists(), f"{page.relative_to(ROOT)} links to {target}"
