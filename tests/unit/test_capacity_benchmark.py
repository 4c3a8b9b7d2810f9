"""The cost model that is shipped, and the page about it, follow from what was measured."""

import json
from pathlib import Path
from statistics import median
from typing import Any

import pytest

from benchmarks import capacity_page
from benchmarks.capacity_fit import MODULES, closed_loops, paper_model
from winnow.capacity.cost_model import CostModel, read_cost_model

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def found() -> dict[str, Any]:
    return json.loads((ROOT / "benchmarks" / "capacity.json").read_text())  # type: ignore[no-any-return]


def test_the_shipped_model_is_what_the_benchmark_writes(found: dict[str, Any]) -> None:
    results = json.loads((ROOT / "benchmarks" / "results.json").read_text())
    expected = paper_model(CostModel.model_validate(found["model"]), results).model_dump(mode="json")
    shipped = read_cost_model().model_dump(mode="json")
    assert shipped.keys() == expected.keys()
    for name, value in expected.items():
        if isinstance(value, (dict, float)):
            assert shipped[name] == pytest.approx(value, rel=1e-6), name


def test_the_page_says_how_well_the_last_run_was_predicted(found: dict[str, Any]) -> None:
    page = (ROOT / "docs" / "capacity.md").read_text()
    assert capacity_page.replaced(page, "checked", "\n".join(capacity_page.checked(found))) == page


def test_the_page_says_where_the_machine_was_not_idle(found: dict[str, Any]) -> None:
    quiet = [{**load, "others_share": 0.02} for load in found["loads"]]
    assert "not idle" not in "\n".join(capacity_page.checked({**found, "loads": quiet}))
    disturbed = [*quiet[1:], {**quiet[0], "others_share": 0.4}]
    said = "\n".join(capacity_page.checked({**found, "loads": disturbed}))
    assert f"during 1 of {len(quiet)} loads, other processes used more than 10 % of it, at most 40 %" in said


def test_closed_loops_are_medians_over_the_rounds_and_open_loops_are_none() -> None:
    rounds = [
        {
            "concurrency": 8,
            "replicas": 1,
            "cpu_seconds": dict.fromkeys(MODULES, seconds),
            "client_seconds": seconds,
            "batch": 2.0,
            "p50_milliseconds": 1000 * seconds,
            "p99_milliseconds": 2000 * seconds,
        }
        for seconds in (0.3, 0.1, 0.2)
    ]
    loops = closed_loops([*rounds, {"rate_per_second": 5.0, "replicas": 1}])
    assert loops.keys() == {8}
    assert loops[8].p50_seconds == loops[8].cpu_seconds["gateway"] == median((0.3, 0.1, 0.2))


def test_a_part_of_the_page_is_replaced_and_a_missing_one_is_an_error() -> None:
    page = "before\n<!-- written by benchmarks.capacity: one -->\nold\n<!-- end -->\nafter"
    new = capacity_page.replaced(page, "one", "new")
    assert new == page.replace("old", "new")
    assert capacity_page.replaced(new, "one", "old") == page
    with pytest.raises(ValueError, match="no part two"):
        capacity_page.replaced(page, "two", "new")
