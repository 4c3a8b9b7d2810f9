"""The fault suite: real processes, traffic on loopback, and a table of what callers saw.

`make test-faults` runs the short form; `--load-seconds 120` makes each fault last longer.
"""

import asyncio
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.faults.cluster import Cluster
from tests.faults.ledger import Judge, Ledger, Load
from tests.releases import ITEM_COUNT, item_id, write_random_release
from winnow.release.models.writer import point_current_at

# How long the load goes on after a fault is over: what recovers by itself does so in this time.
SETTLE_SECONDS = 3.0

LEDGERS = pytest.StashKey[list[Ledger]]()
COLUMNS = ("UNAVAILABLE", "RESOURCE_EXHAUSTED", "DEADLINE_EXCEEDED", "CANCELLED")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--load-seconds", type=float, default=8.0, help="how long the load of one fault lasts")


def pytest_configure(config: pytest.Config) -> None:
    config.stash[LEDGERS] = []


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    ledgers = config.stash[LEDGERS]
    if not ledgers:
        return
    write = terminalreporter.write_line
    write("")
    write(f"{'fault':<44}{'calls':>7}{'full':>7}{'degr.':>7}" + "".join(f"{name[:9]:>10}" for name in COLUMNS)
          + f"{'other':>7}{'p50 ms':>8}{'p99 ms':>8}{'violations':>11}")  # fmt: skip
    for ledger in ledgers:
        codes = ledger.codes
        other = sum(codes.values()) - codes["OK"] - sum(codes[name] for name in COLUMNS)
        write(
            f"{ledger.fault:<44}{len(ledger.calls):>7}{ledger.full_count:>7}{ledger.degraded_count:>7}"
            + "".join(f"{codes[name]:>10}" for name in COLUMNS)
            + f"{other:>7}{ledger.seconds(50) * 1000:>8.1f}{ledger.seconds(99) * 1000:>8.1f}"
            + f"{len(ledger.violations):>11}"
        )
        reasons = [f"degraded {count} times: {reason}" for reason, count in ledger.reasons.items()]
        violations = [f"VIOLATED {count} times: {text}" for text, count in Counter(ledger.violations).most_common(5)]
        for note in [*ledger.notes, *reasons, *violations]:
            write(f"    {note}")


@pytest.fixture(scope="session")
def load_seconds(request: pytest.FixtureRequest) -> float:
    """How long the load of one fault lasts."""
    return float(request.config.getoption("--load-seconds"))


@pytest.fixture
def ledger(request: pytest.FixtureRequest) -> Ledger:
    """The record of this test, and a row of the table."""
    made = Ledger(request.node.name.removeprefix("test_").replace("_", " "))
    request.config.stash[LEDGERS].append(made)
    return made


@pytest.fixture(scope="session")
def two_releases(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[str]]:
    """A releases directory with two releases of the same items."""
    releases = tmp_path_factory.mktemp("fault-releases")
    return releases, [write_random_release(releases, seed=seed) for seed in (1, 2)]


@pytest.fixture(scope="session")
def judge(two_releases: tuple[Path, list[str]]) -> Judge:
    """Knows the right answers of both."""
    return Judge(*two_releases, [item_id(row) for row in range(ITEM_COUNT)])


@pytest.fixture(scope="session")
def cluster_log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where all processes of the suite log to."""
    return tmp_path_factory.mktemp("fault-logs") / "services.log"


@pytest.fixture(scope="module")
def cluster(two_releases: tuple[Path, list[str]], cluster_log: Path) -> Iterator[Cluster]:
    """Two replicas of each stage and a gateway, shared by the faults of a file; each fault leaves it whole."""
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


def load_while(load: Load, seconds: float, fault: Callable[[], None] | None = None) -> None:
    """Run the load, and the fault beside it in a thread: begun when the load is under way, over before it ends."""
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
        time.sleep(SETTLE_SECONDS)
        settled.set()

    thread = threading.Thread(target=begin)
    thread.start()
    asyncio.run(load.run(seconds, go_on=lambda: not settled.is_set()))
    thread.join()
    if failures:
        raise failures[0]
