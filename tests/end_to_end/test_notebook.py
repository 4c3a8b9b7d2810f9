"""The notebook runs from its first cell to its last against the three services."""

from pathlib import Path
from typing import Any

import pytest

from tests.releases import ITEM_COUNT
from winnow.serving.local_stack import LocalStack

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

NOTEBOOK = Path(__file__).parents[2] / "examples" / "client.ipynb"


@pytest.mark.filterwarnings("default")  # those of Jupyter, which starts the kernel in this process's place
def test_the_notebook_runs_and_shows_what_it_says(stack: LocalStack, monkeypatch: pytest.MonkeyPatch) -> None:
    import nbformat
    from nbclient import NotebookClient

    monkeypatch.setenv("WINNOW_TARGET", stack.gateway_target)
    notebook: Any = nbformat.read(NOTEBOOK, as_version=4)
    NotebookClient(notebook, timeout=120, kernel_name="python3").execute()
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    printed = "".join(output.text for output in outputs if output.output_type == "stream" and output.name == "stdout")
    assert f"{ITEM_COUNT} items" in printed
    assert "degraded: no" in printed
    assert "year >= " in printed
    assert "['WATCHED']" in printed
    pictures = [output for output in outputs if "image/png" in output.get("data", {})]
    assert len(pictures) == 3


def test_the_committed_notebook_has_no_outputs() -> None:
    import nbformat

    notebook: Any = nbformat.read(NOTEBOOK, as_version=4)
    nbformat.validate(notebook)
    for cell in notebook.cells:
        assert not cell.get("outputs")
        assert cell.get("execution_count") is None
