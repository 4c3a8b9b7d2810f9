"""The simulation against what can be computed by hand, and against the services' own settings."""

import pytest

from candidate_service.settings import CandidateSettings
from gateway.settings import GatewaySettings
from ranking_service.settings import RankingSettings
from winnow.capacity.cost_model import ServiceCost
from winnow.capacity.simulation import GATEWAY_LIMITS, STAGE_LIMITS, Scenario, simulate


def cost(call: float, query: float) -> ServiceCost:
    return ServiceCost(seconds_per_call=call, seconds_per_query=query, base_bytes=1, bytes_per_item=0)


def scenario(**fields: object) -> Scenario:
    given: dict[str, object] = {
        "gateway": cost(0.001, 0.0005),
        "candidate": cost(0.001, 0.0005),
        "ranking": cost(0.002, 0.0005),
        "candidate_replicas": 1,
        "ranking_replicas": 1,
        "path_share": 1.0,
        "hop_seconds": 0.0,
        "jitter": 0.0,
        "jitter_seconds": 0.0,
        "wake_seconds": 0.0,
        "request_count": 400,
        **fields,
    }
    return Scenario(**given)  # type: ignore[arg-type]


def test_one_caller_waits_for_all_the_work_and_all_the_messages() -> None:
    simulated = simulate(scenario(callers=1, hop_seconds=0.0001))
    work = 0.001 + 0.0005 + 0.001 + 0.0005 + 0.002 + 0.0005
    assert simulated.milliseconds(0.5) == pytest.approx(1000 * (work + 6 * 0.0001))
    assert simulated.mean_batch == 1


def test_many_callers_share_batches_until_a_process_is_busy_all_the_time() -> None:
    simulated = simulate(scenario(callers=64, request_count=4000))
    assert simulated.mean_batch > 10
    assert max(simulated.utilisation.values()) <= 1.001
    # With batches of b, the rate of the whole is bound by the work of one batch in a row.
    assert simulated.rate_per_second > 2 / (0.001 + 0.0005 + 0.001 + 0.0005 + 0.002 + 0.0005)


def test_the_same_seed_gives_the_same_numbers_and_another_one_others() -> None:
    first, again, other = (simulate(scenario(rate_per_second=300, jitter=0.3, seed=seed)) for seed in (1, 1, 2))
    assert first.latencies == again.latencies
    assert first.latencies != other.latencies


def test_a_process_with_nothing_to_do_is_woken_and_a_busy_one_is_not() -> None:
    wake = 0.0002
    alone = simulate(scenario(callers=1, hop_seconds=0.0001, wake_seconds=wake))
    work = 0.001 + 0.0005 + 0.001 + 0.0005 + 0.002 + 0.0005
    # The gateway by the request and both answers, each stage by its call. The client has no work in this scenario.
    assert alone.milliseconds(0.5) == pytest.approx(1000 * (work + 6 * 0.0001 + 5 * wake))
    many, steady = (simulate(scenario(callers=64, request_count=2000, wake_seconds=each)) for each in (wake, 0.0))
    assert 1 / many.rate_per_second - 1 / steady.rate_per_second < wake / 2


def test_a_process_stays_slow_for_a_while() -> None:
    independent, together = (
        simulate(scenario(callers=64, request_count=4000, jitter=0.5, jitter_seconds=seconds))
        for seconds in (0.0, 0.02)
    )
    tails = [simulated.milliseconds(0.99) / simulated.milliseconds(0.5) for simulated in (independent, together)]
    assert tails[1] > tails[0]


def test_more_load_takes_longer_and_more_replicas_do_not() -> None:
    slow = cost(0.001, 0.004)
    calm, busy = (simulate(scenario(ranking=slow, rate_per_second=rate)) for rate in (50, 200))
    assert busy.milliseconds(0.99) > calm.milliseconds(0.99)
    more = simulate(scenario(ranking=slow, rate_per_second=200, ranking_replicas=4))
    assert more.milliseconds(0.99) <= busy.milliseconds(0.99)


def test_processes_share_the_cores_of_a_machine() -> None:
    own = simulate(scenario(callers=32, request_count=2000))
    shared = simulate(scenario(callers=32, request_count=2000, cores=1))
    slower = simulate(scenario(callers=32, request_count=2000, cores=1, busy_speed=0.5))
    assert shared.rate_per_second < own.rate_per_second
    assert slower.rate_per_second == pytest.approx(shared.rate_per_second / 2, rel=0.1)
    assert sum(shared.utilisation.values()) <= 1.001


def test_too_much_load_is_counted_as_failed() -> None:
    simulated = simulate(scenario(rate_per_second=5000, request_count=3000, timeout_seconds=0.1))
    assert simulated.failed_count > 0


@pytest.mark.parametrize("load", [{}, {"rate_per_second": 1.0, "callers": 1}])
def test_a_scenario_has_one_kind_of_load(load: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="either a rate or callers"):
        simulate(scenario(**load))


def test_the_batchers_have_the_limits_of_the_services() -> None:
    gateway = GatewaySettings()
    assert GATEWAY_LIMITS.max_batch_weight == gateway.max_batch_queries
    assert GATEWAY_LIMITS.max_batches_in_flight == gateway.max_batches_in_flight
    assert GATEWAY_LIMITS.max_queued_weight == gateway.max_queued_queries
    for stage in (CandidateSettings(), RankingSettings()):
        assert STAGE_LIMITS.max_batch_weight == stage.max_batch_queries
        assert STAGE_LIMITS.max_queued_weight == stage.max_queued_queries
