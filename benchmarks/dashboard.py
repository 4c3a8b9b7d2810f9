"""`python -m benchmarks.dashboard`: docs/dashboard.png, panels of the dashboard while a load test runs.

It needs Prometheus (Debian: apt install prometheus), two gigabytes of memory and about six minutes on two cores.
"""

import argparse
import json
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks.presets import PAPER, at_size
from benchmarks.prometheus import Prometheus, running_prometheus
from benchmarks.releases import ensure_release, load_requests
from benchmarks.systems import quiet_stack
from winnow.loadtest.load import Load
from winnow.loadtest.processes import run_load
from winnow.serving.local_stack import LocalStack, free_port

DASHBOARD = Path(__file__).parents[1] / "deploy" / "observability" / "grafana" / "dashboards" / "winnow.json"
# Just large enough for an approximate index: it has a recall.
PRESET = at_size(PAPER, 70_000)
SCRAPE_SECONDS, WINDOW = 2, "20s"
RATES_PER_SECOND = (10.0, 30.0)
PHASE_SECONDS = 60.0
# In the last phase the ranking service is away for this long.
OUTAGE_SECONDS = 30.0
# Row and title.
SHOWN = (
    ("Callers", "Requests"), ("Callers", "Latency of RecommendItems"), ("Callers", "Failed and refused"),
    ("Callers", "Degraded answers"), ("Gateway", "Step latency, p99"), ("Gateway", "Queue wait, p99"),
    ("Gateway", "Stage calls"), ("Gateway", "Degraded, by reason"), ("Candidate service", "Computation, p99"),
    ("Candidate service", "Recall at 200"), ("Ranking service", "Computation, p99"),
    ("Releases and processes", "Replicas up"),
)  # fmt: skip
UNITS = {"s": "seconds", "reqps": "per second", "cps": "per second", "percentunit": "share", "short": ""}


def main() -> None:
    """Run the load test and draw what the queries of the dashboard say about it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--releases", type=Path, default=Path("runs/benchmarks"), help="where the release is kept")
    parser.add_argument("--output", type=Path, default=Path("docs/dashboard.png"))
    arguments = parser.parse_args()
    release = ensure_release(PRESET, arguments.releases)
    ports = {service: free_port("127.0.0.1") for service in ("gateway", "candidate_service", "ranking_service")}
    flags: dict[str, list[str]] = {service: [f"--metrics-port={port}"] for service, port in ports.items()}
    flags["candidate_service"].append("--live-recall-share=0.2")
    with (
        tempfile.TemporaryDirectory() as directory,
        quiet_stack(release, **flags) as stack,
        running_prometheus(Path(directory), ports, f"{SCRAPE_SECONDS}s", WINDOW) as prometheus,
    ):
        start = time.time()
        requests = load_requests(release, PRESET.answer_length)
        for rate in RATES_PER_SECOND:
            send(stack, requests, rate, PHASE_SECONDS)
        stack.processes["ranking_service"].kill()
        stack.processes["ranking_service"].wait()
        send(stack, requests, RATES_PER_SECOND[0], OUTAGE_SECONDS)
        stack.start_service("ranking_service")
        send(stack, requests, RATES_PER_SECOND[0], PHASE_SECONDS)
        draw(prometheus, start, time.time(), arguments.output)


def send(stack: LocalStack, requests: list[bytes], rate_per_second: float, seconds: float) -> None:
    """Send requests at this mean rate, in an open loop, and print what callers saw."""
    measured = run_load(
        Load(
            target=stack.gateway_target,
            requests=requests,
            answer_length=PRESET.answer_length,
            seconds=seconds,
            rate_per_second=rate_per_second,
        )
    )
    print(
        f"{rate_per_second:g}/s for {seconds:g} seconds: {measured.answered_count} answers, "
        f"{measured.degraded_count} of them degraded; failures: {dict(measured.failures)}"
    )


def shown_panels() -> list[tuple[str, dict[str, Any]]]:
    """The panels that are drawn, each with the title of its row."""
    found, row = {}, ""
    for panel in json.loads(DASHBOARD.read_text())["panels"]:
        if panel["type"] == "row":
            row = panel["title"]
        else:
            found[row, panel["title"]] = panel
    return [(row, found[row, title]) for row, title in SHOWN]


def legend(target: Mapping[str, Any], labels: Mapping[str, str]) -> str:
    """What Grafana would write beside a series."""
    text: str = target["legendFormat"]
    for name in ("method", "step", "queue", "stage", "code", "reason", "job", "release_id"):
        text = text.replace(f"{{{{{name}}}}}", labels.get(name, ""))
    return text.strip()


def draw(prometheus: Prometheus, start: float, end: float, output: Path) -> None:
    """Ask every query of the panels and plot the answers."""
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(3, 4, figsize=(20, 11), layout="constrained")
    for axis, (row, panel) in zip(axes.flat, shown_panels(), strict=True):
        for target in panel["targets"]:
            expression = target["expr"].replace("[5m]", f"[{WINDOW}]")
            for series in prometheus.query_range(expression, start, end, SCRAPE_SECONDS):
                seconds = [float(at) - start for at, _ in series["values"]]
                values = [float(value) for _, value in series["values"]]
                axis.plot(seconds, values, linewidth=1.2, label=legend(target, series["metric"]))
        defaults = panel["fieldConfig"]["defaults"]
        axis.set_title(f"{row}: {panel['title']}", fontsize=11)
        axis.set_ylabel(UNITS[defaults["unit"]])
        axis.set_ylim(bottom=defaults["min"], top=defaults.get("max"))
        axis.set_xlim(0, end - start)
        axis.grid(alpha=0.3)
        if axis.has_data():
            axis.legend(fontsize=7)
    for axis in axes[-1]:
        axis.set_xlabel("seconds")
    figure.savefig(output, dpi=70)


if __name__ == "__main__":
    main()
