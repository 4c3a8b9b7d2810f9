"""The manifests of deploy/kubernetes as kustomize renders them, and what is in them."""

import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import yaml

KUBERNETES = Path(__file__).parents[1] / "deploy" / "kubernetes"
OVERLAYS = sorted(path.name for path in (KUBERNETES / "overlays").iterdir())

Manifest = dict[str, Any]


@cache
def render(overlay: str) -> tuple[Manifest, ...]:
    """All objects of an overlay. Not to be changed: they are shared."""
    kubectl = Path(sys.executable).parent / "kubectl"
    directory = KUBERNETES / "overlays" / overlay
    rendered = subprocess.run([kubectl, "kustomize", directory], capture_output=True, text=True, check=True, timeout=60)
    return tuple(yaml.safe_load_all(rendered.stdout))


def of_kind(overlay: str, *kinds: str) -> list[Manifest]:
    return [manifest for manifest in render(overlay) if manifest["kind"] in kinds]


def named(overlay: str, kind: str, name: str) -> Manifest:
    (found,) = [manifest for manifest in of_kind(overlay, kind) if manifest["metadata"]["name"] == name]
    return found


def workloads(overlay: str) -> list[Manifest]:
    return of_kind(overlay, "Deployment", "StatefulSet")


def pod_of(workload: Manifest) -> Manifest:
    return dict(workload["spec"]["template"]["spec"])


def serving_containers(workload: Manifest) -> list[Manifest]:
    return list(pod_of(workload)["containers"])


def all_containers(workload: Manifest) -> Iterator[Manifest]:
    yield from pod_of(workload).get("initContainers", ())
    yield from serving_containers(workload)


def environment(container: Manifest) -> dict[str, str]:
    """Variables with a value of their own, not one from a secret."""
    return {entry["name"]: entry["value"] for entry in container.get("env", ()) if "value" in entry}
