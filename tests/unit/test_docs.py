"""The documentation names every setting, every metric and every RPC, and its links lead somewhere."""

import importlib
import re
from pathlib import Path
from typing import Any

import pytest
from pydantic.fields import FieldInfo

from candidate_service.settings import CandidateSettings
from gateway.settings import GatewaySettings
from ranking_service.settings import RankingSettings
from winnow.serving.metrics import Metrics
from winnow.serving.settings import ServerSettings, StageSettings

ROOT = Path(__file__).parents[2]
OPERATIONS = (ROOT / "docs" / "operations.md").read_text()


@pytest.mark.parametrize(
    ("heading", "settings"),
    [
        ("All three services", ServerSettings),
        ("Both stages", StageSettings),
        ("Gateway", GatewaySettings),
        ("Candidate service", CandidateSettings),
        ("Ranking service", RankingSettings),
    ],
)
def test_the_operations_page_has_a_table_of_the_settings(heading: str, settings: type[ServerSettings]) -> None:
    """Those that the class adds or changes. Of the port, each service has a default of its own."""
    [base] = settings.__bases__
    inherited = base.model_fields if issubclass(base, ServerSettings) else {}
    prefix = settings.model_config["env_prefix"] or "WINNOW_*_"
    rows = []
    for name, field in settings.model_fields.items():
        assert field.description, f"{settings.__name__}.{name} has no documentation"
        if name in inherited and default_and_text(field) == default_and_text(inherited[name]):
            continue
        default, text = default_and_text(field)
        rows.append(f"| `{prefix}{name.upper()}` | `--{name.replace('_', '-')}` | `{default}` | {text} |")
    if settings is ServerSettings:
        rows = [row for row in rows if "`--port`" not in row]
    table = re.search(rf"^### {heading}$.*?^(\|.*?)(?=^$|\Z)", OPERATIONS, re.MULTILINE | re.DOTALL)
    assert table is not None
    assert table[1].splitlines() == ["| environment | flag | default | meaning |", "|---|---|---|---|", *rows]


def default_and_text(field: FieldInfo) -> tuple[Any, str | None]:
    return field.default, field.description


def test_every_metric_is_in_the_operations_page() -> None:
    for metric in Metrics().registry.collect():
        name = f"{metric.name}_total" if metric.type == "counter" else metric.name
        assert f"| `{name}` | {metric.type} |" in OPERATIONS
        assert metric.documentation in OPERATIONS


def test_every_rpc_is_in_the_architecture_page() -> None:
    modules = [importlib.import_module(f"winnow.v1.{path.stem}_pb2") for path in ROOT.glob("protos/winnow/v1/*.proto")]
    services = [service for module in modules for service in module.DESCRIPTOR.services_by_name.values()]
    architecture = (ROOT / "docs" / "architecture.md").read_text()
    methods = {method.name for service in services for method in service.methods}
    assert "RecommendItems" in methods
    assert {name for name in methods if f"`{name}`" not in architecture} == set()


def test_links_in_the_pages_lead_somewhere() -> None:
    pages = [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), ROOT / "benchmarks" / "RESULTS.md"]
    links = [(page, link) for page in pages for link in re.findall(r"\]\((?!https?:)([^)]+)\)", page.read_text())]
    assert len(links) > 50
    for page, link in links:
        target, _, anchor = link.partition("#")
        linked = page.parent / target if target else page
        assert linked.exists(), f"{page.relative_to(ROOT)} links to {link}"
        assert not anchor or anchor in anchors(linked), f"{page.relative_to(ROOT)} links to {link}"


def anchors(page: Path) -> set[str]:
    """The anchors of the headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}
