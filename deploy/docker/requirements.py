"""Prints the requirements of pyproject.toml for one purpose: `build` or the name of an extra.

Images install them before the code, so that a change of the code does not install them again.
"""

import sys
import tomllib
from pathlib import Path


def requirements(purpose: str) -> list[str]:
    """Return the requirements in the form that pip reads."""
    pyproject = tomllib.loads(Path("pyproject.toml").read_text())
    project = pyproject["project"]
    if purpose == "build":
        found = pyproject["build-system"]["requires"]
    else:
        found = [*project["dependencies"], *project["optional-dependencies"][purpose]]
    # An extra that includes another extra names the project itself, which is installed later.
    return [requirement for requirement in found if not requirement.startswith(project["name"])]


sys.stdout.writelines(f"{requirement}\n" for requirement in requirements(sys.argv[1]))
