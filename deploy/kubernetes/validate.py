"""Renders every overlay with kustomize and checks each object against the schemas of Kubernetes. For `make lint`."""

import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import kubernetes_validate
import yaml

KUBERNETES_VERSION = "1.37"
# The Prometheus operator's, whose schemas are not among them. tests/unit/deploy looks at these.
FOREIGN_GROUPS = ("monitoring.coreos.com",)
API_VERSION = re.compile(r"([a-z0-9][a-z0-9.-]*/)?v[0-9a-z]+")
KUBECTL = Path(sys.executable).parent / "kubectl"


def problems(overlay: Path) -> list[str]:
    """Return what is wrong with an overlay, a line each."""
    command = [KUBECTL, "kustomize", overlay]
    rendered = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603
    if rendered.returncode:
        return [f"{overlay.name}: {rendered.stderr.strip()}"]
    manifests = list(yaml.safe_load_all(rendered.stdout))
    if not manifests:
        return [f"{overlay.name}: there is no object in it"]
    found = []
    for manifest in manifests:
        # kustomize itself insists on a kind and a name.
        what = f"{overlay.name}: {manifest['kind']} {manifest['metadata']['name']}"
        version = manifest.get("apiVersion")
        if not isinstance(version, str) or not API_VERSION.fullmatch(version):
            found.append(f"{what}: {version!r} is no apiVersion")
            continue
        if version.partition("/")[0] in FOREIGN_GROUPS:
            continue
        try:
            kubernetes_validate.validate(manifest, KUBERNETES_VERSION, strict=True)
        except kubernetes_validate.ValidationError as error:
            found.append(f"{what}: {error}")
        except kubernetes_validate.SchemaNotFoundError as error:
            found.append(f"{what}: {error.message}")
    return found


def main() -> int:
    """Check all overlays; return the exit status."""
    overlays = sorted((Path(__file__).parent / "overlays").iterdir())
    with ThreadPoolExecutor() as threads:
        found = [line for lines in threads.map(problems, overlays) for line in lines]
    sys.stdout.writelines(f"{line}\n" for line in found)
    return int(bool(found))


if __name__ == "__main__":
    raise SystemExit(main())
