"""A mailing for every user survives being killed, and gives what an uninterrupted one gives."""

import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import polars as pl

from tests.end_to_end.test_stack import random_history
from winnow.client import WinnowClient
from winnow.serving.local_stack import LocalStack

# Three parts.
USER_COUNT = 4200


def write_log(path: Path) -> Path:
    histories = [random_history(user)[:5] for user in range(USER_COUNT)]
    watches = [(f"user-{user}", item_id) for user, history in enumerate(histories) for item_id in history]
    user_ids, item_ids = zip(*watches, strict=True)
    times = list(range(len(watches)))
    pl.DataFrame({"user_id": user_ids, "item_id": item_ids, "timestamp": times}).write_parquet(path)
    return path


def start(stack: LocalStack, log: Path, output: Path) -> "subprocess.Popen[str]":
    command = [sys.executable, "-m", "winnow.cli", "recommend", f"--users={log}", f"--output={output}", "--count=10"]
    return subprocess.Popen(
        [*command, f"--target={stack.gateway_target}"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


def finish(process: "subprocess.Popen[str]") -> None:
    printed, _ = process.communicate(timeout=200)
    assert process.returncode == 0, printed


def test_a_killed_run_continues_and_gives_what_an_uninterrupted_one_gives(stack: LocalStack, tmp_path: Path) -> None:
    log = write_log(tmp_path / "log.parquet")
    finish(start(stack, log, tmp_path / "whole.parquet"))

    output = tmp_path / "out.parquet"
    killed = start(stack, log, output)
    parts = output.with_name("out.parquet.parts")
    while not list(parts.glob("part-*.parquet")):
        assert killed.poll() is None
        time.sleep(0.01)
    killed.send_signal(signal.SIGKILL)
    killed.communicate()
    assert not output.exists()
    finish(start(stack, log, output))

    whole, continued = (pl.read_parquet(path) for path in (tmp_path / "whole.parquet", output))
    assert whole["user_id"].n_unique() == USER_COUNT
    assert set(whole["status"]) == {"OK"}
    exact = ["user_id", "position", "item_id", "score_type", "release_id", "degradation", "status", "error"]
    assert whole.select(exact).equals(continued.select(exact))
    np.testing.assert_allclose(whole["score"], continued["score"], atol=1e-5, rtol=0)
    assert continued["recommendation_id"].n_unique() == USER_COUNT
    assert not parts.exists()

    with WinnowClient(stack.gateway_target, timeout_seconds=5) as client:
        alone = client.recommend(random_history(7)[:5], count=10)
    assert whole.filter(pl.col("user_id") == "user-7")["item_id"].to_list() == [item.item_id for item in alone.items]
