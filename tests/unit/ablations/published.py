"""docs/ablations.json as it is committed."""

import json
from pathlib import Path

from ablations.runner import Study

DOCS = Path(__file__).parents[3] / "docs"
PUBLISHED = json.loads((DOCS / "ablations.json").read_text())


def assert_published_in_these_words(study: Study) -> None:
    """After a change of words: `python -m ablations --report-only`."""
    found = PUBLISHED["studies"][study.name]
    assert (found["title"], found["about"], found["headings"]) == (study.title, study.about, study.figures)
    assert [cell["labels"] for cell in found["cells"]] == [cell.labels for cell in study.cells]
