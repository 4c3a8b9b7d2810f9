"""Prints what pyproject.toml requires for one purpose: `build`, or the name of an extra.

Images install that apart from the code, so that a change of the code does not install it again.
"""

import sys
import tomllib
from pathlib import Path


def requirements(purpose: str) -> list[str]:
    """Return the requirements as pip reads them."""
    pyproject = tomllib.loads(Path("pyproject.toml").read_text())
    project = pyproject["project"]
    if purpose == "build":
        found = pyproject["build-system"]["requires"]
    else:
        found = [*project["dependencies"], *project["optional-dependencies"][purpose]]
    # An extra that includes another one names the project itself, which is installed later.
    return [requirement for requirement in found if not requirement.startswith(project["name"])]


sys.stdout.writelines(f"{requirement}\n" for requirement in requirements(sys.argv[1]))
