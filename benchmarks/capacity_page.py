"""The tables of docs/capacity.md: what was predicted and measured, and what `winnow plan` says."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.capacity_fit import SHARES, machine
from winnow.capacity.cost_model import CostModel
from winnow.capacity.plan import Plan, Wanted, make_plan

TOLERANCE = 0.25
# Other processes that used more of the machine than this have disturbed a load.
QUIET_SHARE = 0.1
REQUEST_COUNT = 10_000
BILLION = Wanted(item_count=1e9, requests_per_second=1e5, p99_seconds=0.1)
WITHIN_REACH = (
    Wanted(item_count=1e6, requests_per_second=1e5, p99_seconds=0.1),
    Wanted(item_count=1e6, requests_per_second=1e5, p99_seconds=0.3),
    Wanted(item_count=1e7, requests_per_second=1e5, p99_seconds=0.1),
)


def compare(model: CostModel, loads: Sequence[Mapping[str, Any]], cores: int) -> list[dict[str, Any]]:
    """Return predicted and measured latencies of the open loops side by side: medians over the rounds."""
    points = {(load["replicas"], load["rate_per_second"]) for load in loads if "rate_per_second" in load}
    compared = []
    for replicas, rate in sorted(points):
        rounds = [load for load in loads if (load["replicas"], load.get("rate_per_second")) == (replicas, rate)]
        simulated = machine(model, replicas, cores, rate_per_second=rate, request_count=REQUEST_COUNT)
        row: dict[str, Any] = {"replicas": replicas, "rate_per_second": round(rate)}
        for name, share in SHARES.items():
            measured = [load[f"{name}_milliseconds"] for load in rounds]
            row[name] = {
                "measured": round(median(measured), 1),
                "range": [round(min(measured), 1), round(max(measured), 1)],
                "predicted": round(simulated.milliseconds(share), 1),
                "ratio": round(simulated.milliseconds(share) / median(measured), 2),
            }
        compared.append(row)
    return compared


def checked(found: Mapping[str, Any]) -> Iterator[str]:
    """Yield the lines that say how well latencies were predicted."""
    rows, machine_facts = found["compared"], found["machine"]
    ratios = [row[name]["ratio"] for row in rows for name in ("p50", "p99")]
    within = sum(abs(ratio - 1) <= TOLERANCE for ratio in ratios)
    yield "| replicas of each stage | requests a second | p50 measured, ms | predicted | p99 measured, ms | predicted |"
    yield "|---|---|---|---|---|---|"
    for row in rows:
        cells = [
            f"{of['measured']} ({of['range'][0]} to {of['range'][1]}) | {of['predicted']} ({of['ratio']:.2f})"
            for of in (row["p50"], row["p99"])
        ]
        yield f"| {row['replicas']} | {row['rate_per_second']:,} | {' | '.join(cells)} |"
    yield ""
    yield (
        f"**{within} of {len(ratios)} are within {_percent(TOLERANCE)}** "
        f"(preset `small`, {machine_facts['cores']} cores of an {machine_facts['processor']}, "
        f"commit {machine_facts['commit'][:7]})."
    )
    # A run of an earlier version has not noted it.
    disturbed = [share for load in found["loads"] if (share := load.get("others_share", 0.0)) > QUIET_SHARE]
    if disturbed:
        yield (
            f"**The machine was not idle:** during {len(disturbed)} of {len(found['loads'])} loads, "
            f"other processes used more than {_percent(QUIET_SHARE)} of it, at most {_percent(max(disturbed))}."
        )
    callers = sorted({load["concurrency"] for load in found["loads"] if "concurrency" in load})
    round_count = 1 + max(load["round"] for load in found["loads"])
    model = found["model"]
    yield (
        f"Fitted to closed loops of {', '.join(map(str, callers))} callers; rounds: {round_count}. "
        f"A core has {_percent(model['busy_speed'])} of its speed while all are busy. "
        f"Work varies by a factor of e^{model['jitter']:.2f} (a standard deviation), "
        f"for {1000 * model['jitter_seconds']:g} ms. Waking a process takes {1000 * model['wake_seconds']:.2f} ms."
    )


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %"


def _billion(model: CostModel) -> Iterator[str]:
    plan = make_plan(model, BILLION)
    yield "| service | replicas | a zone less | GiB each | MiB/s in | MiB/s out |"
    yield "|---|---|---|---|---|---|"
    for service in plan.services:
        shards = f": {plan.shard_count:,} shards" if service.name == "candidate" and plan.shard_count > 1 else ""
        yield (
            f"| {service.name}{shards} | {service.replicas:,} | {service.needed:,} | {service.memory_gibibytes:,.1f} "
            f"| {service.received_mebibytes_per_second:,.0f} | {service.sent_mebibytes_per_second:,.0f} |"
        )
    yield ""
    yield (
        f"p50 {1000 * plan.p50_seconds:,.0f} ms, p99 {1000 * plan.p99_seconds:,.0f} ms, simulated. A query takes "
        f"{1000 * plan.search_seconds:.1f} ms of CPU time in each shard, {plan.shard_count * plan.search_seconds:.2f} "
        "seconds in all. What stands against it:"
    )
    yield ""
    yield from (f"- {limit}" for limit in plan.limits())


def _within_reach(model: CostModel) -> Iterator[str]:
    yield "| items | p99 asked for | gateway | candidate | ranking | p99, a zone less | busiest | requests in a batch |"
    yield "|---|---|---|---|---|---|---|---|"
    for wanted in WITHIN_REACH:
        plan = make_plan(model, wanted)
        cells = [f"{service.replicas:,} x {service.memory_gibibytes:,.1f} GiB" for service in plan.services]
        busiest = max(service.utilisation for service in plan.services)
        yield (
            f"| {wanted.item_count:,.0f} | {1000 * wanted.p99_seconds:.0f} ms | {' | '.join(cells)} "
            f"| {1000 * plan.p99_seconds:.0f} ms{_note(plan)} | {busiest:.0%} | {plan.mean_batch:.0f} |"
        )


def _note(plan: Plan) -> str:
    return f", {plan.shard_count} shards" if plan.shard_count > 1 else ""


def write(page: Path, found: Mapping[str, Any], model: CostModel) -> None:
    """Replace what stands between the markers of the page. Raises ValueError where one is missing."""
    text = page.read_text()
    parts = {"checked": checked(found), "billion": _billion(model), "within-reach": _within_reach(model)}
    for name, lines in parts.items():
        text = replaced(text, name, "\n".join(lines))
    page.write_text(text)


def replaced(text: str, name: str, new: str) -> str:
    """Return the text with the part of this name replaced. Raises ValueError where its markers are missing."""
    begin, end = f"<!-- written by benchmarks.capacity: {name} -->\n", "\n<!-- end -->"
    before, found, rest = text.partition(begin)
    _, ended, after = rest.partition(end)
    if not (found and ended):
        raise ValueError(f"the page has no part {name}")
    return before + begin + new + end + after
