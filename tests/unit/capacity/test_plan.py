"""Plans keep what they promise, and say what does not work."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from winnow.capacity.cost_model import CostModel, SearchCost, read_cost_model
from winnow.capacity.plan import Plan, Wanted, make_plan
from winnow.cli import app

REQUEST_COUNT = 400


@pytest.fixture(scope="module")
def model() -> CostModel:
    return read_cost_model()


def wanted(**fields: float) -> Wanted:
    return Wanted(**({"item_count": 1e6, "requests_per_second": 5000, "p99_seconds": 0.3} | fields))  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def plan(model: CostModel) -> Plan:
    return make_plan(model, wanted(), REQUEST_COUNT)


def test_a_plan_keeps_the_latency_with_cores_to_spare(plan: Plan) -> None:
    assert plan.keeps_latency
    assert plan.p50_seconds <= plan.p99_seconds <= 0.3
    for service in plan.services:
        assert service.utilisation_without_zone <= 1
        assert service.fits


def test_the_reserve_outlives_a_zone(plan: Plan) -> None:
    for service in plan.services:
        assert service.replicas * 2 / 3 >= service.needed - 1
        assert service.replicas >= 3


def test_replicas_grow_with_the_load_and_memory_with_the_catalogue(model: CostModel, plan: Plan) -> None:
    ten_times = make_plan(model, wanted(requests_per_second=50_000), REQUEST_COUNT)
    larger = make_plan(model, wanted(item_count=3e6, p99_seconds=3.0), REQUEST_COUNT)
    for service, loaded, grown in zip(plan.services, ten_times.services, larger.services, strict=True):
        assert loaded.needed == pytest.approx(10 * service.needed, rel=0.2)
        assert loaded.received_mebibytes_per_second == pytest.approx(10 * service.received_mebibytes_per_second)
        assert grown.memory_gibibytes > service.memory_gibibytes


def test_memory_is_what_was_measured(model: CostModel) -> None:
    results = json.loads((Path(__file__).parents[3] / "benchmarks" / "results.json").read_text())
    measured = results["presets"]["paper"]["serving"]["memory_mebibytes"]
    for name, service in (("gateway", "gateway"), ("candidate", "candidate_service"), ("ranking", "ranking_service")):
        one_release = getattr(model, name).memory_bytes(1e6, release_count=1) / 2**20
        assert one_release == pytest.approx(measured[service]["resident"], rel=0.01)


@pytest.mark.slow
def test_a_catalogue_that_fits_no_replica_is_divided_and_said_not_to_fit(model: CostModel) -> None:
    plan = make_plan(model, wanted(item_count=1e9, requests_per_second=100), REQUEST_COUNT)
    assert plan.shard_count > 1
    candidate = plan.services[1]
    assert candidate.fits
    assert candidate.replicas % plan.shard_count == 0
    said = list(plan.limits())
    assert any(line.startswith("ranking does not fit") for line in said)


def test_search_is_a_line_between_measured_sizes(model: CostModel) -> None:
    for point in model.search:
        assert model.search_seconds(point.item_count) == pytest.approx(point.seconds)
    doubled = model.model_copy(
        update={"search": (SearchCost(item_count=10, seconds=1), SearchCost(item_count=100, seconds=10))}
    )
    assert doubled.search_seconds(50) == pytest.approx(5)
    assert doubled.search_seconds(1000) == pytest.approx(100)
    assert doubled.search_seconds(1) == pytest.approx(0.1)


@pytest.mark.parametrize(
    "wrong",
    [{"item_count": 0}, {"item_count": float("inf")}, {"requests_per_second": -1}, {"p99_seconds": float("nan")},
     {"zones": 0}, {"hop_seconds": -1}, {"hop_seconds": 1e30}, {"hop_seconds": float("nan")}, {"item_count": 1e15}],
)  # fmt: skip
def test_what_cannot_be_planned_is_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong)).replace("item_count", "item")):
        wanted(**wrong)


@pytest.mark.parametrize(
    ("where", "value"),
    [
        ("ranking.seconds_per_query", 1e300),
        ("gateway.seconds_per_call", 1e30),
        ("gateway.base_bytes", 0),
        ("hop_seconds", 1e30),
        ("jitter", 1e30),
        ("busy_speed", 1e-300),
        ("path_share", 1e-300),
        ("item_count", "many"),
        ("search", [{"item_count": 10, "seconds": 1}, {"item_count": 10, "seconds": 2}]),
        ("search", [{"item_count": 10, "seconds": 1}, {"item_count": 5, "seconds": 2}]),
        ("search", [{"item_count": 10, "seconds": 1}]),
    ],
)
def test_a_file_of_costs_that_would_be_simulated_for_ever_or_wrongly_is_refused(
    tmp_path: Path, model: CostModel, where: str, value: object
) -> None:
    costs = inner = json.loads(model.model_dump_json())
    *tables, last = where.split(".")
    for table in tables:
        inner = inner[table]
    inner[last] = value
    path = tmp_path / "costs.json"
    path.write_text(json.dumps(costs))
    with pytest.raises(ValueError, match=f"costs.json: {where}: "):
        read_cost_model(path)


@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe", b"[]"])
def test_a_file_that_is_no_cost_model_is_named(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "costs.json"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"costs.json: the whole: "):
        read_cost_model(path)


def test_the_largest_catalogue_that_fits_counts_what_a_replica_takes_without_one(model: CostModel) -> None:
    cost = model.ranking
    for item_count in (0, 1e5, 1e8):
        assert cost.most_items(cost.memory_bytes(item_count)) == pytest.approx(item_count)
    assert cost.most_items(cost.base_bytes / 2) == 0


@pytest.mark.slow
def test_the_command_reads_a_file_of_costs(tmp_path: Path, model: CostModel) -> None:
    path = tmp_path / "costs.json"
    path.write_text(model.model_copy(update={"measured": "our machines"}).model_dump_json())
    flags = ["plan", "--items=1e5", "--requests-per-second=100", "--p99-milliseconds=300", f"--costs={path}"]
    result = CliRunner().invoke(app, flags)
    assert result.exit_code == 0, result.output
    assert "saturates first" in result.output
    assert "Costs: our machines" in result.output

    path.write_text(json.dumps(json.loads(path.read_text()) | {"jitter": -1}))
    result = CliRunner().invoke(app, flags)
    assert result.exit_code == 1
    assert "jitter" in result.output
