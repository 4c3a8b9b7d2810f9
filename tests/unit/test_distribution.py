"""What the distribution is called, and what is said where an extra is missing."""

import re
import tomllib
from pathlib import Path

import pytest

from winnow.distribution import NAME, install_command, missing_extras_named

PYPROJECT = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())["project"]
EXTRAS = PYPROJECT["optional-dependencies"]


def test_the_distribution_has_the_name_of_the_project() -> None:
    assert PYPROJECT["name"] == NAME


def test_extras_include_extras_of_the_same_distribution() -> None:
    included = [entry for extra in EXTRAS.values() for entry in extra if entry.startswith("winnow")]
    assert len(included) >= 5
    for entry in included:
        found = re.fullmatch(rf"{NAME}\[([a-z,-]+)\]", entry)
        assert found
        assert set(found[1].split(",")) <= set(EXTRAS)


@pytest.mark.parametrize(
    ("module", "extra"),
    [
        ("torch", "serve"),
        ("polars", "train"),
        ("hdrh", "loadtest"),
        ("optuna", "tune"),
        ("pydantic", "gateway"),
        ("starlette", "explorer"),
    ],
)
def test_a_missing_package_is_named_with_its_extra(module: str, extra: str) -> None:
    assert extra in EXTRAS
    message = re.escape(f"{module} is not installed: {install_command(extra)}")
    with pytest.raises(SystemExit, match=message), missing_extras_named():
        raise ModuleNotFoundError(name=f"{module}.part")


def test_a_program_names_the_extra_that_it_needs_whatever_is_missing_first() -> None:
    with pytest.raises(SystemExit, match=r"numpy is not installed: .*\[serve\]"), missing_extras_named("serve"):
        raise ModuleNotFoundError(name="numpy")


def test_what_the_program_needs_by_choice_alone_is_named_by_its_own_extra() -> None:
    with pytest.raises(SystemExit, match=r"pymilvus is not installed: .*\[milvus\]"), missing_extras_named("serve"):
        raise ModuleNotFoundError(name="pymilvus")


def test_another_missing_module_is_a_bug_and_stays_one() -> None:
    with pytest.raises(ModuleNotFoundError), missing_extras_named():
        raise ModuleNotFoundError(name="winnow.nothing")
