"""Rules and dashboard of deploy/observability: their queries, and the metrics that these name."""

import json
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[1]
DIRECTORY = ROOT / "deploy" / "observability"
PROMETHEUS = DIRECTORY / "prometheus"
JOBS = ("gateway", "candidate_service", "ranking_service")

_NAME = re.compile(r"[a-zA-Z_:][a-zA-Z0-9_:]*")


def read(path: Path) -> Any:
    return yaml.safe_load(path.read_text())


def rules(file: str) -> list[dict[str, Any]]:
    return [rule for group in read(PROMETHEUS / file)["groups"] for rule in group["rules"]]


def dashboard() -> dict[str, Any]:
    found: dict[str, Any] = json.loads((DIRECTORY / "grafana" / "dashboards" / "winnow.json").read_text())
    return found


def panels() -> list[dict[str, Any]]:
    return [panel for panel in dashboard()["panels"] if panel["type"] != "row"]


def queries() -> list[str]:
    """All queries of rules and panels."""
    of_rules = [rule["expr"] for file in ("recording_rules.yml", "alerts.yml") for rule in rules(file)]
    return of_rules + [target["expr"] for panel in panels() for target in panel["targets"]]


def names(expressions: Iterable[str]) -> set[str]:
    """The metrics that queries name: those of the services, and recorded ones, which have colons."""
    unquoted = " ".join(re.sub(r'"[^"]*"', "", expression) for expression in expressions)
    return {name for name in _NAME.findall(unquoted) if ":" in name or name.startswith("winnow_")}


def recorded() -> set[str]:
    return {rule["record"] for rule in rules("recording_rules.yml")}
