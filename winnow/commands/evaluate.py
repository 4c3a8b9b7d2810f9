"""`winnow evaluate`: a release beside baselines."""

import json
import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

LOG_WIDTH = 160


def evaluate(
    release: Annotated[Path, typer.Option(help="A release's directory, or one with releases: then the current one.")],
    interactions: Annotated[Path, typer.Option(help="The log that the release was trained on.")],
    part: Annotated[list[str] | None, typer.Option(help="validation or test; both unless given.")] = None,
    baseline: Annotated[
        list[str] | None, typer.Option(help="popularity, item-knn, ease, als or none; all unless given.")
    ] = None,
    withhold: Annotated[
        bool,
        typer.Option("--withhold", help="Also as asked by callers without weights, timestamps or either of them."),
    ] = False,
    report: Annotated[Path | None, typer.Option(help="Write an HTML page with plots, about the test.")] = None,
    figures: Annotated[Path | None, typer.Option(help="Write every figure as JSON.")] = None,
    section: Annotated[
        str | None, typer.Option(help="Put them under this key of the JSON file and leave its other keys.")
    ] = None,
    device: Annotated[str, typer.Option(help="cpu, cuda, cuda:1.")] = "cpu",
    threads: Annotated[int | None, typer.Option(min=1, help="CPU threads; torch's choice unless given.")] = None,
) -> None:
    """Measure both stages of a release on held-out watches, beside baselines that learn from the same log."""
    import torch

    from winnow.evaluation.compare import BASELINES, Log, compare
    from winnow.evaluation.comparison_report import as_json, gain_in_words, page, table
    from winnow.logs.input_table import InteractionLogError
    from winnow.release.manifest import CURRENT_FILE
    from winnow.release.reader import ReleaseError, current_release_id, open_release

    parts = part or ["validation", "test"]
    baselines = [name for name in (baseline or BASELINES) if name != "none"]
    for name, known in [(name, ("validation", "test")) for name in parts] + [(name, BASELINES) for name in baselines]:
        if name not in known:
            raise typer.BadParameter(f"there is no {name!r}, only {', '.join(known)}")
    if report is not None and "test" not in parts:
        raise typer.BadParameter("--report is about the test, which --part leaves out")
    if threads is not None:
        torch.set_num_threads(threads)
    # Where nobody looks at it now, a log, wide enough for the tables.
    console = Console(highlight=False, width=None if sys.stdout.isatty() else LOG_WIDTH)
    try:
        path = release / current_release_id(release) if (release / CURRENT_FILE).is_file() else release
        opened = open_release(path)
        log = Log.read(interactions, opened)
        console.print(f"Split: {log.split.description}")
        compared = []
        for one in compare(
            opened, log, parts=parts, baselines=baselines, withhold=withhold, device=torch.device(device)
        ):
            compared.append(one)
            console.print(f"{one.part}, {one.name}: HR@10 {one.figures['hr_at_10']:.4f}")
    except (ReleaseError, InteractionLogError, ValueError, ImportError) as error:
        reason = f"{error}: pip install 'winnow[train]'" if isinstance(error, ImportError) else str(error)
        Console(stderr=True, highlight=False, soft_wrap=True).print(reason, style="red", markup=False)
        raise typer.Exit(1) from None
    for name in parts:
        console.print(table(name, compared))
        console.print(gain_in_words(name, compared))
    if figures is not None:
        found = as_json(opened, log, parts, compared)
        if section is not None:
            found = {**(json.loads(figures.read_text()) if figures.exists() else {}), section: found}
        figures.write_text(json.dumps(found, indent=1) + "\n")
    if report is not None:
        report.write_text(page(opened, "test", compared, log))
