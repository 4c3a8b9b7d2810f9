"""Prints what pyproject.toml requires, for pip, so that images install it in a layer that a code change leaves alone.

requirements.py build           what building the wheel needs
requirements.py run [EXTRA...]  what running it needs, with these extras
"""

import sys
import tomllib
from pathlib import Path


def main(purpose: str, *extras: str) -> None:
    pyproject = tomllib.loads(Path("pyproject.toml").read_text())
    if purpose == "build":
        requirements = pyproject["build-system"]["requires"]
    else:
        project = pyproject["project"]
        requirements = project["dependencies"] + [
            requirement for extra in extras for requirement in project["optional-dependencies"][extra]
        ]
    # An extra that includes another one names the project itself, which is installed later.
    own_name = pyproject["project"]["name"]
    sys.stdout.writelines(f"{requirement}\n" for requirement in requirements if not requirement.startswith(own_name))


main(*sys.argv[1:])
