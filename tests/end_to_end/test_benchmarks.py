"""Smoke runs of the benchmarks: every system starts and answers, every figure is written. They assert no time."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks import watch_messages

# The ratios that the project is judged by.
REQUIRED_RATIOS = {
    "small.saturation.winnow_over_noop_single_hop",
    "small.saturation.winnow_over_noop_chain",
    "small.saturation.winnow_over_naive_chain",
    "small.concurrency_1.p50_winnow_over_noop_chain",
    "small.callers_32.native_over_noop_single_hop",
    "small.callers_32.native_over_noop_chain",
    "small.callers_32.native_cpu_milliseconds",
    "small.callers_32.default_over_noop_chain",
    "paper.saturation.winnow_over_naive_chain",
    "paper.concurrency_1.p50_winnow_over_naive_chain",
    "paper.index_recall_at_200",
    "paper.top_20_overlap",
    "paper.ranking_share_of_gemm",
}


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_smoke_run_writes_every_figure(tmp_path: Path) -> None:
    result = subprocess.run(
        [sys.executable, "-m", "benchmarks", "--smoke", f"--output={tmp_path}", f"--releases={tmp_path / 'releases'}"],
        capture_output=True,
        text=True,
        timeout=580,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    results = json.loads((tmp_path / "results.json").read_text())
    assert results["ratios"].keys() >= REQUIRED_RATIOS
    assert all(value > 0 for value in results["ratios"].values())
    for preset in ("small", "paper"):
        figures = results["presets"][preset]
        # Small catalogues are scanned, so that nothing but float16 can differ from the exact pipeline.
        assert figures["serving"]["top_20_overlap"] >= 0.99
        serving = figures["serving"]
        for load in ("alone", "saturated", "callers_32", "callers_64"):
            expected = set(figures["shape"]["systems"]) - ({"naive_chain"} if load.startswith("callers") else set())
            assert serving[load].keys() == expected
            for measured in serving[load].values():
                assert measured["answered_count"] > 0
                assert measured["failures"] == {}
        assert (tmp_path / f"latency_{preset}.png").exists()
    assert (tmp_path / "growth.png").exists()
    assert "## Ratios" in (tmp_path / "RESULTS.md").read_text()


@pytest.mark.parametrize("known", [False, True])
def test_every_layout_of_a_history_is_read_as_it_was_sent(known: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watch_messages, "TRIES", 1)
    watches = watch_messages.Watches(
        item_ids=["a", "b"], weights=[0.0, 3.5] if known else [], times_seconds=[0, 1_700_000_000] if known else []
    )
    costs = watch_messages.measure(watches)  # raises where a history is not read as it was sent
    assert len(costs) == 3
    assert all(cost.size_bytes > 0 for cost in costs.values())


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_recommendations_by_user_id_are_measured(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "benchmarks.users", "--smoke", f"--releases={tmp_path}"]
    result = subprocess.run(command, capture_output=True, text=True, timeout=280, check=False)
    assert result.returncode == 0, result.stderr
    results = json.loads(result.stdout)
    for store in ("SQLite", "Valkey"):
        for size in ("1 in a call", "64 in a call"):
            assert all(ratio > 0 for ratio in results[store][size]["median_ratio"].values())


@pytest.mark.slow
@pytest.mark.parametrize("store", ["sqlite", "valkey"])
def test_a_store_of_many_users_is_measured(store: str, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "benchmarks.user_stores", f"--store={store}", "--users=300", "--tries=3"]
    result = subprocess.run(
        [*command, f"--directory={tmp_path}"], capture_output=True, text=True, timeout=200, check=False
    )
    assert result.returncode == 0, result.stderr
    figures = json.loads(result.stdout)
    assert figures["file_bytes_per_watch" if store == "sqlite" else "server_bytes_per_watch"] > 50
    assert figures["read_of_64_users_milliseconds"]["p50"] > 0
    assert list(tmp_path.iterdir()) == []


def test_deriving_releases_is_measured(tmp_path: Path) -> None:
    output = tmp_path / "derived_release.json"
    command = [sys.executable, "-m", "benchmarks.derived_release", "--items=5000", f"--output={output}"]
    result = subprocess.run(command, capture_output=True, text=True, timeout=200, check=False)
    assert result.returncode == 0, result.stderr
    results = json.loads(output.read_text())
    derived = [figures for name, figures in results.items() if "item" in name and isinstance(figures, dict)]
    assert len(derived) == 2
    for figures in derived:
        assert "candidate_network.safetensors" not in figures["written"]
        assert 0 < figures["mebibytes_written"] < figures["mebibytes_of_the_release"]
    assert list(tmp_path.iterdir()) == [output]
