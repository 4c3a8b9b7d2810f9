"""`winnow experiment` and `winnow publish`: what they write, and what they refuse."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry, start_http_server
from typer.testing import CliRunner

from gateway.experiment import GatewayExperiment
from tests.releases import write_random_release
from winnow.cli import app
from winnow.release.experiment import EXPERIMENT_FILE, changing_experiment, read_experiment
from winnow.release.publication import point_current_at
from winnow.release.reader import current_release_id
from winnow.serving.metrics import Metrics

Run = Callable[..., str]


@pytest.fixture(scope="module")
def two_releases(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str, str]:
    directory = tmp_path_factory.mktemp("releases")
    return directory, write_random_release(directory, seed=2), write_random_release(directory, seed=1)


@pytest.fixture
def releases(two_releases: tuple[Path, str, str]) -> Path:
    directory, _, current = two_releases
    (directory / EXPERIMENT_FILE).unlink(missing_ok=True)
    point_current_at(directory, current)
    return directory


@pytest.fixture
def other(two_releases: tuple[Path, str, str]) -> str:
    return two_releases[1]


@pytest.fixture
def run(releases: Path) -> Run:
    def run(*arguments: str, exit_code: int = 0) -> str:
        result = CliRunner().invoke(app, [*arguments, f"--releases={releases}"], env={"COLUMNS": "300"})
        assert result.exit_code == exit_code, result.output
        return result.output

    return run


def test_start_writes_what_show_prints_and_end_removes(run: Run, releases: Path, other: str) -> None:
    started = run("experiment", "start", "wider", f"--arm=b={other}:0.25", f"--shadow=s={other}:0.5")
    assert "To end it: winnow experiment end" in started
    experiment = read_experiment(releases)
    assert experiment is not None
    assert [(arm.name, arm.share, arm.shadow) for arm in experiment.arms] == [("b", 0.25, False), ("s", 0.5, True)]
    assert experiment.current_release_id == current_release_id(releases)
    shown = run("experiment", "show")
    for text in ("Experiment wider", "0.75", "0.25", other, "s (shadow)", "Without --metrics"):
        assert text in shown
    run("experiment", "end")
    assert read_experiment(releases) is None
    assert "no experiment is running" in run("experiment", "show", exit_code=1)


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ([], "nothing is to be tried"),
        (["--arm=b=OTHER"], "an arm is given as NAME=RELEASE_ID:SHARE"),
        (["--arm=b=OTHER:ten"], "an arm is given as NAME=RELEASE_ID:SHARE"),
        (["--arm=b=OTHER:10"], "share: Input should be less than or equal to 1"),
        (["--arm=B=OTHER:0.1"], "name: String should match pattern"),
        (["--arm=b=../x:0.1"], "release_id: String should match pattern"),
        (["--arm=b=OTHER:0.6", "--arm=c=OTHER:0.6"], "add up to 1.2"),
        (["--arm=b=20300101T000000Z-0123456789ab:0.1"], "manifest.json is missing"),
    ],
)
def test_what_cannot_be_started_is_refused_and_nothing_written(
    run: Run, releases: Path, other: str, arguments: list[str], reason: str
) -> None:
    arguments = [argument.replace("OTHER", other) for argument in arguments]
    assert reason in run("experiment", "start", "trial", *arguments, exit_code=1)
    assert not (releases / EXPERIMENT_FILE).exists()


def test_a_second_experiment_is_not_started_over_the_first(run: Run, releases: Path, other: str) -> None:
    run("experiment", "start", "first", f"--arm=b={other}:0.1")
    assert "the experiment first is running" in run("experiment", "start", "two", f"--arm=b={other}:0.1", exit_code=1)
    (releases / EXPERIMENT_FILE).write_text("{")
    assert "Invalid JSON" in run("experiment", "start", "two", f"--arm=b={other}:0.1", exit_code=1)
    assert "Invalid JSON" in run("experiment", "show", exit_code=1)
    assert "Invalid JSON" in run("experiment", "end", "--publish=b", exit_code=1)
    run("experiment", "end")


def test_two_operators_do_not_change_it_at_once(run: Run, releases: Path, other: str) -> None:
    with changing_experiment(releases):
        for arguments in (["start", "trial", f"--arm=b={other}:0.1"], ["end"]):
            assert "another process is changing the experiment" in run("experiment", *arguments, exit_code=1)
    run("experiment", "start", "trial", f"--arm=b={other}:0.1")
    run("experiment", "end")


def test_what_was_typed_is_printed_as_it_was(run: Run, other: str) -> None:
    # ":-1:" is the name of an emoji.
    assert f"b={other}:-1: share:" in run("experiment", "start", "trial", f"--arm=b={other}:-1", exit_code=1)


def test_end_publishes_an_arm_and_says_how_to_roll_back(run: Run, releases: Path, other: str) -> None:
    before = current_release_id(releases)
    run("experiment", "start", "trial", f"--arm=b={other}:0.1")
    assert "has no arm x: b" in run("experiment", "end", "--publish=x", exit_code=1)
    assert read_experiment(releases) is not None
    ended = run("experiment", "end", "--publish=b")
    assert current_release_id(releases) == other
    assert read_experiment(releases) is None
    assert f"To roll back: winnow publish {before} --releases {releases}" in ended
    run("publish", before)
    assert current_release_id(releases) == before


def test_only_a_release_that_is_there_is_published(run: Run, releases: Path) -> None:
    before = current_release_id(releases)
    assert "manifest.json is missing" in run("publish", "20300101T000000Z-0123456789ab", exit_code=1)
    assert current_release_id(releases) == before


@pytest.fixture
def gateway_metrics() -> Iterator[tuple[Metrics, str]]:
    metrics = Metrics()
    server, thread = start_http_server(0, addr="127.0.0.1", registry=metrics.registry)
    yield metrics, f"http://127.0.0.1:{server.server_port}/metrics"
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.mark.parametrize("path", ["{}/{}", "./{1}", "../releases/{1}", "", "."])
def test_a_path_is_not_published(run: Run, releases: Path, other: str, path: str) -> None:
    before = current_release_id(releases)
    for engine in ("none", "milvus"):
        published = run("publish", path.format(releases, other), f"--engine={engine}", exit_code=1)
        assert "is not the id of a release" in published
    assert current_release_id(releases) == before


def test_show_compares_the_arms(run: Run, releases: Path, other: str, gateway_metrics: tuple[Metrics, str]) -> None:
    metrics, url = gateway_metrics
    run("experiment", "start", "trial", f"--arm=b={other}:0.5")
    experiment = read_experiment(releases)
    assert experiment is not None
    assert "None of these gateway processes takes part" in run("experiment", "show", f"--metrics={url}")
    running = GatewayExperiment(experiment, metrics)
    for user in map(str, range(800)):
        arm = running.arm_of(user)
        arm.figures.count_answer(arm.group, 0.004, degraded=False)
    shown = run("experiment", "show", f"--metrics={url}", f"--metrics={url}")
    assert "by 2 of 2 gateway processes" in shown
    line = next(line for line in shown.splitlines() if "answers " in line)
    assert sum(int(cell) for cell in line.replace("│", " ").replace(",", "").split() if cell.isdigit()) == 1600
    assert "0 [0, " in shown, "no degraded answer yet is not the same as none at all"
    assert "more than current" in shown
    point_current_at(releases, other)
    assert "not that of the start any more" in run("experiment", "show")
    assert "refused" in run("experiment", "show", "--metrics=http://127.0.0.1:1/metrics", exit_code=1)


def test_the_text_of_metrics_is_all_that_is_read(run: Run, other: str) -> None:
    """Any server that speaks the format will do, and one that knows nothing of experiments says so."""
    server, thread = start_http_server(0, addr="127.0.0.1", registry=CollectorRegistry())
    try:
        run("experiment", "start", "trial", f"--arm=b={other}:0.5")
        shown = run("experiment", "show", f"--metrics=http://127.0.0.1:{server.server_port}/metrics")
        assert "None of these gateway processes takes part" in shown
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
