"""The cost model that is shipped follows from what was measured."""

import json
from pathlib import Path

import pytest

from benchmarks.capacity_fit import calibration, idle_model, paper_model
from winnow.capacity.cost_model import read_cost_model

ROOT = Path(__file__).parents[2]


def test_the_shipped_model_is_what_the_benchmark_writes() -> None:
    results = json.loads((ROOT / "benchmarks" / "results.json").read_text())
    measured = json.loads((ROOT / "benchmarks" / "capacity.json").read_text())["measured"]
    small = idle_model(calibration(measured), results)
    expected = paper_model(small, results).model_dump(mode="json")
    shipped = read_cost_model().model_dump(mode="json")
    assert shipped.keys() == expected.keys()
    for name in ("gateway", "candidate", "ranking", "network"):
        assert shipped[name] == pytest.approx(expected[name], rel=1e-6)
    for name in ("path_share", "hop_seconds", "jitter", "busy_speed"):
        assert shipped[name] == pytest.approx(expected[name], rel=0.05)
