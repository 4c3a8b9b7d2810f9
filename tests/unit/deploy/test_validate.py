"""deploy/kubernetes/validate.py says what is wrong with a broken overlay, whatever it is."""

import importlib.util
from pathlib import Path

import pytest

from tests.manifests import KUBERNETES

KUSTOMIZATION = "apiVersion: kustomize.config.k8s.io/v1beta1\nkind: Kustomization\nresources: [object.yaml]\n"
GOOD = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: settings}\n"


def problems(tmp_path: Path, manifest: str) -> list[str]:
    spec = importlib.util.spec_from_file_location("validate", KUBERNETES / "validate.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    overlay = tmp_path / "overlay"
    overlay.mkdir()
    (overlay / "kustomization.yaml").write_text(KUSTOMIZATION)
    (overlay / "object.yaml").write_text(manifest)
    found: list[str] = module.problems(overlay)
    return found


def test_a_good_object_has_no_problem(tmp_path: Path) -> None:
    assert problems(tmp_path, GOOD) == []


@pytest.mark.parametrize(
    ("manifest", "problem"),
    [
        ("", "overlay: there is no object in it"),
        ("a: [", "overlay: error: "),
        (GOOD.replace("apiVersion: v1", ""), "overlay: ConfigMap settings: None is no apiVersion"),
        (GOOD.replace("v1", "1"), "overlay: ConfigMap settings: 1 is no apiVersion"),
        (GOOD.replace("v1", "../v1"), "overlay: ConfigMap settings: '../v1' is no apiVersion"),
        (
            GOOD.replace("ConfigMap", "ConfigMop"),
            "overlay: ConfigMop settings: Couldn't find schema for kind ConfigMop",
        ),
        (GOOD + "bogus: 1", "overlay: ConfigMap settings: Additional properties are not allowed ('bogus'"),
    ],
)
def test_what_is_wrong_is_said_with_the_object(tmp_path: Path, manifest: str, problem: str) -> None:
    [found] = problems(tmp_path, manifest)
    assert found.startswith(problem)
