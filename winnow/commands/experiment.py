"""`winnow experiment start | show | end`: releases for a share of the users, and shadows."""

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from winnow.commands.failures import one_line_errors
from winnow.commands.publish import make_current

if TYPE_CHECKING:
    from winnow.experiments.figures import ArmCounts, ExperimentCounts
    from winnow.experiments.intervals import Estimate
    from winnow.release.experiment import Arm, Experiment

experiment_app = typer.Typer(
    help="Let releases answer a share of the users, or be asked as shadows, and compare them.", no_args_is_help=True
)

Releases = Annotated[Path, typer.Option(help="Directory of the releases.")]
ARM_FORM = "NAME=RELEASE_ID:SHARE"


@experiment_app.command()
def start(
    name: Annotated[str, typer.Argument(help="What to call the experiment.")],
    arm: Annotated[
        list[str] | None,
        typer.Option(help=f"A release and its share of the users, as {ARM_FORM}: b=20260101T000000Z-abc:0.1"),
    ] = None,
    shadow: Annotated[
        str | None,
        typer.Option(help=f"A release that a share of the requests are sent to as well, as {ARM_FORM}."),
    ] = None,
    releases: Releases = Path("releases"),
) -> None:
    """Start an experiment beside the current release. Running services take part by themselves."""
    from winnow.release.experiment import (
        ExperimentError,
        changing_experiment,
        new_experiment,
        read_experiment,
        write_experiment,
    )
    from winnow.release.reader import current_release_id, open_release

    with one_line_errors(ValueError), changing_experiment(releases):
        arms = [_arm(text, shadow=False) for text in arm or ()]
        if shadow is not None:
            arms.append(_arm(shadow, shadow=True))
        if not arms:
            raise ExperimentError("nothing is to be tried: give --arm or --shadow")
        running = read_experiment(releases)
        if running is not None:
            raise ExperimentError(f"the experiment {running.name} is running: end it first")
        started_at = datetime.now(UTC).replace(microsecond=0)
        experiment = new_experiment(name, tuple(arms), current_release_id(releases), started_at)
        for one in experiment.arms:
            open_release(releases / one.release_id, frozenset())
        write_experiment(releases, experiment)
    console = Console(emoji=False, highlight=False, soft_wrap=True)
    console.print(f"Experiment {experiment.name} has started in {releases}", markup=False)
    for one in experiment.arms:
        console.print(f"  {one.name}: {one.share:.4g} of {'requests' if one.shadow else 'users'}, {one.release_id}")
    console.print(f"To end it: winnow experiment end --releases {releases}", markup=False)


@experiment_app.command()
def show(
    metrics: Annotated[
        list[str] | None,
        typer.Option(help="Metrics of a gateway process, http://HOST:PORT/metrics; repeat it for every process."),
    ] = None,
    releases: Releases = Path("releases"),
) -> None:
    """Show the running experiment and, from the metrics of all gateway processes, how its arms do."""
    from winnow.experiments.figures import read_counts
    from winnow.metrics_endpoint import fetch_metrics
    from winnow.release.experiment import ExperimentError, read_experiment
    from winnow.release.reader import current_release_id

    with one_line_errors(ValueError):
        experiment = read_experiment(releases)
        if experiment is None:
            raise ExperimentError(f"no experiment is running in {releases}")
        current = current_release_id(releases)
        counts = read_counts(experiment.name, [fetch_metrics(url) for url in metrics or ()])
    console = Console(emoji=False, highlight=False, soft_wrap=True)
    console.print(
        f"Experiment {experiment.name}, started at {experiment.started_at:%Y-%m-%d %H:%M:%S %Z}", markup=False
    )
    if current != experiment.current_release_id:
        console.print(f"The current release is not that of the start any more: {experiment.current_release_id}")
    if not metrics:
        console.print("Without --metrics, nothing is known of what the gateways have counted.")
    elif counts.counted_since is None:
        console.print("None of these gateway processes takes part.")
    else:
        console.print(
            f"Counted since {counts.counted_since:%Y-%m-%d %H:%M:%S %Z} by {counts.counting} of {len(metrics)} "
            f"gateway processes; 95 % intervals in brackets"
        )
    console.print(_table_of_arms(experiment, counts, current))
    if experiment.shadow is not None:
        console.print(_table_of_shadow(experiment.shadow, counts))


@experiment_app.command()
def end(
    publish: Annotated[
        str | None, typer.Option(help="The arm whose release becomes current; otherwise the current one stays.")
    ] = None,
    releases: Releases = Path("releases"),
) -> None:
    """End the experiment: everybody gets the current release, or with --publish that of an arm."""
    from winnow.release.experiment import (
        CURRENT_ARM,
        ExperimentError,
        changing_experiment,
        read_experiment,
        remove_experiment,
    )

    with one_line_errors(ValueError), changing_experiment(releases):
        if publish not in (None, CURRENT_ARM):
            experiment = read_experiment(releases)
            arms = () if experiment is None else experiment.arms
            release_ids = {arm.name: arm.release_id for arm in arms}
            if experiment is not None and publish not in release_ids:
                raise ExperimentError(
                    f"the experiment {experiment.name} has no arm {publish}: {', '.join(release_ids)}"
                )
            if experiment is not None:
                # First: in between, the arm's users go on getting its release.
                make_current(releases, release_ids[publish])
        remove_experiment(releases)
    Console(emoji=False, highlight=False, soft_wrap=True).print(f"The experiment in {releases} has ended", markup=False)


def _arm(text: str, *, shadow: bool) -> "Arm":
    """Raises ExperimentError where the text is not an arm."""
    from pydantic import ValidationError

    from winnow.release.experiment import Arm, ExperimentError

    name, _, rest = text.partition("=")
    release_id, _, share = rest.rpartition(":")
    try:
        return Arm(name=name, release_id=release_id, share=float(share), shadow=shadow)
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        raise ExperimentError(f"{text}: {first['loc'][0]}: {first['msg']}") from error
    except ValueError as error:
        raise ExperimentError(f"{text}: an arm is given as {ARM_FORM}, the share from 0 to 1") from error


def _table_of_arms(experiment: "Experiment", counts: "ExperimentCounts", current: str) -> Table:
    from winnow.experiments.figures import ArmCounts, total
    from winnow.experiments.intervals import difference
    from winnow.release.experiment import CURRENT_ARM

    arms = experiment.answering_arms
    rest = round(1 - sum(arm.share for arm in arms), 6)
    names = [CURRENT_ARM, *(arm.name for arm in arms)]
    of = [counts.arms.get(name, ArmCounts()) for name in names]
    table = Table("", *names)

    def row(title: str, text: Callable[["ArmCounts"], str]) -> None:
        table.add_row(title, *(Text(text(arm)) for arm in of))

    def compared(
        title: str, figure: Callable[["ArmCounts"], "Estimate | None"], text: Callable[["Estimate | None"], str]
    ) -> None:
        row(title, lambda arm: text(figure(arm)))
        base = figure(of[0])
        others = []
        for arm in of[1:]:
            estimate = figure(arm)
            more = None if base is None or estimate is None else difference(estimate, base)
            # Without an interval it says nothing.
            others.append("-" if more is None or more.low is None else text(more))
        table.add_row("  more than current", "", *map(Text, others))

    table.add_row("release", current, *(arm.release_id for arm in arms))
    table.add_row("share of users", f"{rest:.4g}", *(f"{arm.share:.4g}" for arm in arms))
    row("answers", lambda arm: f"{total(arm.answers):,}")
    compared("degraded, %", lambda arm: arm.degraded_share(), lambda estimate: _text(estimate, 100))
    row("time, median, ms", lambda arm: _text(arm.seconds_quantile(0.5), 1000))
    row("time, 99th percentile, ms", lambda arm: _text(arm.seconds_quantile(0.99), 1000))
    for kind, title in (("click", "clicks"), ("watch", "watches")):
        row(title, lambda arm, kind=kind: f"{total(arm.events.get(kind, ())):,}")  # type: ignore[misc]
        compared(f"{title} an answer", lambda arm, kind=kind: arm.events_per_answer(kind), _text)  # type: ignore[misc]
    row("answered by another release", lambda arm: _counts(arm.fallbacks))
    return table


def _table_of_shadow(shadow: "Arm", counts: "ExperimentCounts") -> Table:
    from winnow.experiments.figures import ArmCounts

    arm = counts.arms.get(shadow.name, ArmCounts())
    table = Table("", f"{shadow.name} (shadow)")
    table.add_row("release", shadow.release_id)
    table.add_row("share of requests", f"{shadow.share:.4g}")
    table.add_row("requests", _counts(arm.shadow_requests))
    table.add_row("time, median, ms", Text(_text(arm.seconds_quantile(0.5), 1000)))
    table.add_row("time, 99th percentile, ms", Text(_text(arm.seconds_quantile(0.99), 1000)))
    table.add_row("overlap@20", Text(_text(arm.overlap())))
    table.add_row("rank correlation (Kendall)", Text(_text(arm.rank_correlation())))
    return table


def _text(estimate: "Estimate | None", unit: float = 1.0) -> str:
    if estimate is None:
        return "-"
    value = f"{estimate.value * unit:.4g}"
    if estimate.low is None or estimate.high is None:
        return value
    return f"{value} [{estimate.low * unit:.4g}, {estimate.high * unit:.4g}]"


def _counts(counts: Mapping[str, float]) -> str:
    return ", ".join(f"{count:,.0f} {name}" for name, count in sorted(counts.items()) if count) or "0"
