"""benchmarks/RESULTS.md is what the code writes for benchmarks/results.json."""

from pathlib import Path

from benchmarks.results_page import page, read

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


def test_the_page_shows_the_results() -> None:
    """After a change of words: `python -m benchmarks --report-only`."""
    assert (BENCHMARKS / "RESULTS.md").read_text() == page(read(BENCHMARKS))
