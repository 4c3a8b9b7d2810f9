"""A bad network between the gateway and both stages."""

import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.faults.cluster import HOST, STAGES, Cluster
from tests.faults.conftest import load_while
from tests.faults.ledger import Judge, Ledger, Load
from tests.faults.proxy import Proxy, Weather


@pytest.fixture(scope="module")
def weathered(two_releases: tuple[Path, list[str]], cluster_log: Path) -> Iterator[tuple[Cluster, list[Proxy]]]:
    """One replica of each stage, each behind a proxy."""
    with ExitStack() as stack:
        log = stack.enter_context(cluster_log.open("ab"))
        made = Cluster(two_releases[0], log, replica_count=1)
        stack.callback(made.stop)
        made.add_stages()
        proxies = {stage: Proxy(HOST, made.replicas[stage][0].port) for stage in STAGES}
        for proxy in proxies.values():
            stack.enter_context(proxy.running())
        made.stage_targets = {stage: [proxy.target] for stage, proxy in proxies.items()}
        made.add_gateway()
        made.start_all()
        yield made, list(proxies.values())


@pytest.mark.parametrize(
    ("name", "weather", "hides_the_stages"),
    [
        ("delay of 20 ms, jitter of up to 20 ms", Weather(delay_seconds=0.02, jitter_seconds=0.02), False),
        ("throttled to 100 kB/s", Weather(bytes_per_second=100_000), False),
        ("delay beyond the deadline", Weather(delay_seconds=1.5), True),
        ("black hole", Weather(black_hole=True), True),
    ],
)
def test_network(
    weathered: tuple[Cluster, list[Proxy]],
    judge: Judge,
    ledger: Ledger,
    load_seconds: float,
    name: str,
    weather: Weather,
    hides_the_stages: bool,
) -> None:
    ledger.fault = f"network: {name}"
    cluster, proxies = weathered

    def storm() -> None:
        for proxy in proxies:
            proxy.weather = weather
        time.sleep(load_seconds / 2)
        for proxy in proxies:
            proxy.weather = Weather()

    load_while(Load(cluster.gateway.target, judge, ledger, rate=20, timeout_seconds=1.0), load_seconds + 3, storm)
    assert ledger.violations == []
    assert ledger.codes["OK"] >= 0.95 * len(ledger.calls)
    assert ledger.degraded_count > 0 or not hides_the_stages, "the fault reached the stages"
    assert ledger.all_full_of_late(), "recovered after the fault"


def test_network_resets(
    weathered: tuple[Cluster, list[Proxy]], judge: Judge, ledger: Ledger, load_seconds: float
) -> None:
    ledger.fault = "network: connections reset twice a second"
    cluster, proxies = weathered

    def storm() -> None:
        end = time.monotonic() + load_seconds / 2
        while time.monotonic() < end:
            for proxy in proxies:
                proxy.reset_connections()
            time.sleep(0.5)

    load_while(Load(cluster.gateway.target, judge, ledger, rate=20, timeout_seconds=1.0), load_seconds + 2, storm)
    assert min(proxy.reset_count for proxy in proxies) > 0
    assert ledger.violations == []
    assert ledger.codes["OK"] == len(ledger.calls)
