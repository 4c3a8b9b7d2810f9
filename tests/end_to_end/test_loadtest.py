"""`winnow loadtest` against the real stack, one second for each load: it counts answers and says what failed."""

import json
import subprocess
import sys
from pathlib import Path

from tests.releases import ITEM_COUNT, item_id
from winnow.serving.local_stack import LocalStack, free_port


def loadtest(*flags: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", "winnow.cli", "loadtest", "--seconds=1", *flags],
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )


def test_closed_and_open_loops_are_measured(stack: LocalStack, releases: Path, tmp_path: Path) -> None:
    figures, plot = tmp_path / "figures.json", tmp_path / "plot.png"
    result = loadtest(
        f"--target={stack.gateway_target}", f"--releases={releases}", "--timeout-seconds=20", "--processes=2",
        "--concurrency=4", "--rate=20", "--connection-per-caller", f"--json={figures}", f"--plot={plot}",
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    closed, opened = json.loads(figures.read_text())
    assert closed["offered"] == "4 callers"
    assert closed["answered_count"] > 4
    assert 5 <= opened["answered_count"] <= 45  # 20 arrivals in a second, Poisson: 5 sigma
    for point in (closed, opened):
        assert point["failures"] == {}
        assert point["degraded_count"] == 0
        assert point["latency_milliseconds"]["p50"] <= point["latency_milliseconds"]["p99.9"]
        assert all(value is not None for value in point["parts_mean_milliseconds"].values())
    assert plot.read_bytes().startswith(b"\x89PNG")


def test_histories_of_the_users_own_and_answers_of_another_length(stack: LocalStack, tmp_path: Path) -> None:
    histories, figures = tmp_path / "histories.jsonl", tmp_path / "figures.json"
    # Watched items are left out: of 300 items 50 are left, and an answer with fewer than 100 counts as a failure.
    histories.write_text(json.dumps([item_id(row) for row in range(ITEM_COUNT - 50)]) + "\n")
    common = (f"--target={stack.gateway_target}", f"--histories={histories}", f"--json={figures}")
    result = loadtest(*common, "--count=100", "--concurrency=1", "--timeout-seconds=20")
    assert result.returncode == 0, result.stderr
    [point] = json.loads(figures.read_text())
    assert point["answered_count"] == 0
    assert point["failures"].keys() == {"INVALID_ANSWER"}


def test_a_gateway_that_is_not_there_is_named(releases: Path) -> None:
    target = f"127.0.0.1:{free_port('127.0.0.1')}"
    result = loadtest(f"--target={target}", f"--releases={releases}", "--concurrency=1")
    assert result.returncode == 1
    assert f"a client process could not reach {target}" in " ".join(result.stderr.split())


def test_an_open_loop_has_no_callers_to_connect() -> None:
    result = loadtest("--rate=20", "--connection-per-caller")
    assert result.returncode == 2
    assert "--connection-per-caller needs --concurrency" in " ".join(result.stderr.split())
