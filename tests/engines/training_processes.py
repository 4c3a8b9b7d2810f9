"""Training by real processes that talk by gloo, and what it has to equal: training by one."""

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.unit.training.planted import write_planted_log
from winnow.logs.part_writer import write_parts
from winnow.release.reader import open_current_release
from winnow.serving.local_stack import free_port

SETTINGS = """
min_item_count = 1
precision = "float32"
[candidate]
softmax = "sampled"
embedding_dim = 16
hidden_dim = 16
negative_count = 16
epochs = {epochs}
chunk_length = 4
chunks_per_batch = 16
held_back_share = 0.2
{candidate}
[ranking]
embedding_dim = 16
examples_per_batch = 32
candidate_count = 20
negative_count = 8
"""
# Much more than rounding, and much less than what a different draw does.
TOLERANCE = 1e-4


def write_log(directory: Path, part_count: int = 7) -> None:
    """Write a log as a file, for one process, and in parts, for several."""
    write_planted_log(directory / "log.csv")
    write_parts([directory / "log.csv"], directory / "log.parts", part_count=part_count)


def command(directory: Path, name: str, *options: str, log: str = "log.parts") -> list[str]:
    return [
        "train",
        "--interactions", str(directory / log),
        *(["--items", str(directory / "items.csv")] if (directory / "items.csv").exists() else []),
        "--settings", str(directory / "settings.toml"),
        "--preset", "demo",
        "--publish", "always",
        "--releases", str(directory / name),
        "--checkpoints", str(directory / f"{name}-checkpoints"),
        *options,
    ]  # fmt: skip


def settings_in(directory: Path, candidate: str = "", epochs: int = 3) -> None:
    (directory / "settings.toml").write_text(SETTINGS.format(candidate=candidate, epochs=epochs))


def train_alone(directory: Path, *options: str) -> None:
    arguments = command(directory, "alone", *options, log="log.csv")
    subprocess.run([sys.executable, "-m", "winnow", *arguments], check=True, capture_output=True, timeout=120)


def torchrun(count: int, arguments: list[str]) -> subprocess.CompletedProcess[str]:
    launcher = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", str(count), "--master-port",
                str(free_port("127.0.0.1")), "-m", "winnow"]  # fmt: skip
    return subprocess.run([*launcher, *arguments], capture_output=True, text=True, timeout=200, check=False)


def losses(releases: Path) -> dict[str, list[float]]:
    training = open_current_release(releases).manifest.training
    return {name: [epoch["loss"] for epoch in epochs] for name, epochs in training["epochs"].items()}


def figures(releases: Path) -> Mapping[str, Mapping[str, Mapping[str, float]]]:
    found: Mapping[str, Mapping[str, Mapping[str, float]]]
    found = open_current_release(releases).manifest.figures
    return found


def assert_same_training(directory: Path, name: str, *, tolerance: float = TOLERANCE) -> None:
    expected, found = losses(directory / "alone"), losses(directory / name)
    for network in ("candidate", "ranking"):
        assert found[network] == pytest.approx(expected[network], abs=tolerance, rel=0)
        assert len(set(found[network])) == len(found[network])
    for stage in ("candidate", "chain"):
        of_stage = figures(directory / name)["test"][stage]
        assert of_stage == pytest.approx(figures(directory / "alone")["test"][stage], abs=0.02)


def start_process(
    rank: int, count: int, port: int, arguments: list[str], module: str = "winnow"
) -> subprocess.Popen[str]:
    """Start one of several processes."""
    variables = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": count, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    environment = {**os.environ, **{name: str(value) for name, value in variables.items()}}
    return subprocess.Popen(
        [sys.executable, "-m", module, *arguments],
        env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
