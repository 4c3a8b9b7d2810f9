"""`winnow evaluate`: a release beside baselines."""

import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from winnow.commands.computing import Device, Threads, set_up_torch
from winnow.commands.failures import one_line_errors
from winnow.commands.log_options import reads_a_log
from winnow.logs.log_format import LogFormat

# Wide enough for the tables, where the output is not a terminal.
FILE_WIDTH = 160


@reads_a_log
def evaluate(
    log_format: LogFormat,
    release: Annotated[Path, typer.Option(help="A release, or a directory of releases: then the current one.")],
    interactions: Annotated[Path, typer.Option(help="The interaction log that the release was trained on.")],
    impressions: Annotated[
        Path | None, typer.Option(help="The log of impressions that the release was trained on, if it was.")
    ] = None,
    part: Annotated[list[str] | None, typer.Option(help="validation or test; both by default.")] = None,
    baseline: Annotated[
        list[str] | None, typer.Option(help="popularity, succession-knn, item-knn, ease, als or none; all by default.")
    ] = None,
    withhold: Annotated[
        bool,
        typer.Option("--withhold", help="Also measure callers who send no weights, no timestamps or neither."),
    ] = False,
    report: Annotated[Path | None, typer.Option(help="Write an HTML page with plots about the test.")] = None,
    figures: Annotated[
        Path | None,
        typer.Option(help="Write all figures as JSON, those of each recommender as soon as they are known."),
    ] = None,
    section: Annotated[
        str | None, typer.Option(help="Write them under this key of the JSON file, and keep its other keys.")
    ] = None,
    device: Device = "cpu",
    threads: Threads = None,
) -> None:
    """Measure both stages of a release on held-out watches, beside baselines that learn from the same log.

    Where ranking was trained on impressions, it is measured on later impressions, and only the candidate stage on
    watches.
    """
    from winnow.evaluation.baselines import BASELINES
    from winnow.evaluation.compare import (
        PARTS,
        Compared,
        Comparison,
        EvaluationLog,
        LeftOut,
        compare,
        measure_on_impressions,
    )
    from winnow.evaluation.comparison_report import (
        as_json,
        how_much_is_used,
        page,
        table,
        what_is_retired,
        what_ranking_adds,
    )
    from winnow.evaluation.figures_file import FiguresFile
    from winnow.evaluation.figures_table import impressions_table
    from winnow.evaluation.progress import comparison_progress
    from winnow.release.reader import open_release_or_current

    parts = part or list(PARTS)
    baselines = [name for name in (baseline or BASELINES) if name != "none"]
    for name, known in [(name, PARTS) for name in parts] + [(name, BASELINES) for name in baselines]:
        if name not in known:
            raise typer.BadParameter(f"there is no {name!r}, only {', '.join(known)}")
    if report is not None and "test" not in parts:
        raise typer.BadParameter("--report is about the test, which --part leaves out")
    chosen_device = set_up_torch(device, threads)
    console = Console(emoji=False, highlight=False, width=None if sys.stdout.isatty() else FILE_WIDTH)
    with one_line_errors(ValueError):
        opened = open_release_or_current(release)
        log = EvaluationLog.read(opened, interactions, impressions, log_format)
        for remark in log.remarks():
            console.print(remark, markup=False, soft_wrap=True)
        console.print(f"Split: {log.split.description}")
        judged = measure_on_impressions(opened, log, parts, chosen_device)
        compared: list[Compared] = []
        left_out: list[LeftOut] = []
        comparison = Comparison(release=opened, log=log, compared=compared, left_out=left_out, impressions=judged)
        figures_file = None if figures is None else FiguresFile(figures, section)
        with comparison_progress(console) as report_progress:
            for one in compare(
                opened,
                log,
                parts=parts,
                baselines=baselines,
                withheld=withhold,
                device=chosen_device,
                report=report_progress,
            ):
                if isinstance(one, LeftOut):
                    left_out.append(one)
                    console.print(f"{one.name} is left out: {one.reason}")
                else:
                    compared.append(one)
                    console.print(f"{one.part}, {one.name}: HR@10 {one.figures['hr_at_10']:.4f}")
                if figures_file is not None:
                    figures_file.save(as_json(parts, comparison))
        for said in (how_much_is_used(comparison), what_is_retired(parts, comparison)):
            if said:
                console.print(said, soft_wrap=True)
        for name in parts:
            console.print(table(name, comparison))
            console.print(what_ranking_adds(name, comparison))
            if name in judged:
                console.print(impressions_table(f"{name}: ranking on later impressions", judged[name]))
        if report is not None:
            report.write_text(page("test", comparison))
