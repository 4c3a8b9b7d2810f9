"""The fault suite: real processes, traffic on loopback, and a table of what callers saw.

`make test-faults` runs the short form; `--load-seconds 120` makes the load of each fault last longer.
"""

import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NoReturn

import pytest

from tests.faults import table
from tests.faults.cluster import Cluster
from tests.faults.ledger import Judge, Ledger, Load
from tests.releases import ITEM_COUNT, item_id, write_random_release
from winnow.release.publication import point_current_at

# How long the load continues after a fault is over; the stack recovers within this time ...
SETTLE_SECONDS = 3.0
# ... or, where the machine is slow or busy, within this time. Then the load continues until it has recovered.
LONGEST_SETTLE_SECONDS = 15.0

LEDGERS = pytest.StashKey[list[Ledger]]()


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--load-seconds", type=float, default=8.0, help="how long the load of each fault lasts")


def pytest_configure(config: pytest.Config) -> None:
    config.stash[LEDGERS] = []


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    ledgers = config.stash[LEDGERS]
    if ledgers:
        for line in ["", *table.lines(ledgers)]:
            terminalreporter.write_line(line)


@pytest.fixture(scope="session")
def load_seconds(request: pytest.FixtureRequest) -> float:
    """How long the load of one fault lasts."""
    return float(request.config.getoption("--load-seconds"))


@pytest.fixture
def ledger(request: pytest.FixtureRequest) -> Iterator[Ledger]:
    """The record of this test and its row of the table. A test that makes no call is an error unless it says why."""
    name, _, parameters = request.node.name.removeprefix("test_").replace("_", " ").rstrip("]").partition("[")
    made = Ledger(f"{name}: {parameters.replace('-', ', ')}" if parameters else name)
    request.config.stash[LEDGERS].append(made)
    yield made
    if not made.calls and not made.not_run:
        pytest.fail("no call was made: a row of zeros would look like a fault that nobody noticed")


def not_run(ledger: Ledger, reason: str) -> NoReturn:
    """Skip the test; its row of the table says so."""
    ledger.not_run = reason
    pytest.skip(f"NOT run: {reason}")


@pytest.fixture(scope="session")
def two_releases(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[str]]:
    """A releases directory with two releases of the same items."""
    releases = tmp_path_factory.mktemp("fault-releases")
    return releases, [write_random_release(releases, seed=seed) for seed in (1, 2)]


@pytest.fixture(scope="session")
def judge(two_releases: tuple[Path, list[str]]) -> Judge:
    """Knows the right answers of both releases."""
    return Judge(*two_releases, [item_id(row) for row in range(ITEM_COUNT)])


@pytest.fixture(scope="session")
def cluster_log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The file that all processes of the suite log to."""
    return tmp_path_factory.mktemp("fault-logs") / "services.log"


@pytest.fixture(scope="module")
def cluster(two_releases: tuple[Path, list[str]], cluster_log: Path) -> Iterator[Cluster]:
    """Two replicas of each stage and a gateway, shared by the tests of a file; each test leaves them running."""
    with cluster_log.open("ab") as log:
        made = Cluster(two_releases[0], log)
        try:
            made.start()
            yield made
        finally:
            made.stop()


@contextmanager
def swapping(two_releases: tuple[Path, list[str]], every_seconds: float = 2.0) -> Iterator[None]:
    """Point CURRENT at the other release every few seconds until the block ends."""
    releases, release_ids = two_releases
    stop = threading.Event()

    def swap() -> None:
        position = 0
        while not stop.wait(every_seconds):
            position += 1
            point_current_at(releases, release_ids[position % 2])

    thread = threading.Thread(target=swap)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def load_while(load: Load, seconds: float, fault: Callable[[], None] | None = None, *, recovers: bool = True) -> None:
    """Run the load and, in a thread, the fault: it starts after the load does and is over before the load ends."""
    if fault is None:
        asyncio.run(load.run(seconds))
        return
    failures: list[BaseException] = []
    settled = threading.Event()

    def begin() -> None:
        time.sleep(1)
        try:
            fault()
        except BaseException as error:
            failures.append(error)
        give_up = time.monotonic() + LONGEST_SETTLE_SECONDS
        time.sleep(SETTLE_SECONDS)
        while recovers and not load.ledger.all_full_of_late(seconds=1) and time.monotonic() < give_up:
            time.sleep(0.1)
        settled.set()

    thread = threading.Thread(target=begin)
    thread.start()
    asyncio.run(load.run(seconds, go_on=lambda: not settled.is_set()))
    thread.join()
    if failures:
        raise failures[0]
