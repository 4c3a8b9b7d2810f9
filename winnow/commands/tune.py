"""`winnow tune`: searches for settings that are better than those of the preset `auto`."""

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from winnow.commands.computing import Device, Threads, set_up_torch
from winnow.commands.failures import one_line_errors
from winnow.commands.log_options import reads_a_log
from winnow.logs.log_format import LogFormat

if TYPE_CHECKING:
    from optuna.trial import FrozenTrial

STUDY_FILE = "study.sqlite3"


@reads_a_log
def tune(
    log_format: LogFormat,
    interactions: Annotated[Path, typer.Option(help="The interaction log, as for winnow train.")],
    minutes: Annotated[float, typer.Option(min=0.0, help="How long to search.")] = 30.0,
    directory: Annotated[
        Path, typer.Option(help="Where the search is kept, and its results. One that is there is continued.")
    ] = Path("runs/tune"),
    device: Device = "cpu",
    threads: Threads = None,
) -> None:
    """Train with other settings than those of the preset auto, again and again, and write the best to settings.toml.

    Settings are compared on validation. Ctrl-C ends the search early; the same command continues it.
    """
    from winnow.locks import only_process_in
    from winnow.logs.interactions import read_interactions
    from winnow.logs.split import SPLITS, checked
    from winnow.logs.statistics import LogStatistics
    from winnow.training import automatic
    from winnow.training.distributed.processes import check_alone
    from winnow.training.run_context import RunContext, choose_precision
    from winnow.training.search import Objective, open_search, run_trials
    from winnow.training.search_report import (
        PLOT_FILE,
        SETTINGS_FILE,
        importances_table,
        table,
        write_plot,
        write_results,
    )

    chosen_device = set_up_torch(device, threads)
    console = Console(emoji=False, highlight=False, soft_wrap=True)
    with one_line_errors(ValueError):
        check_alone("winnow tune")
    # The trials of another process would be taken for those of one that was killed.
    with one_line_errors(ValueError), only_process_in(directory):
        basis = automatic.BASIS
        log = read_interactions(
            interactions,
            vocabulary_size=basis.vocabulary_size,
            min_item_count=basis.min_item_count,
            log_format=log_format,
        )
        split = checked(SPLITS[basis.split](log.histories), str(interactions))
        item_count = len(log.vocabulary)
        choice = automatic.choose(LogStatistics.of(split.training, item_count))
        for line in choice.decisions:
            console.print(line, markup=False)
        basis = choice.settings
        context = RunContext(
            seed=basis.seed,
            data=f"{log.fingerprint} {basis.split}",
            checkpoints=directory,
            console=console,
            device=chosen_device,
            precision=choose_precision(basis.precision, chosen_device),
        )
        search = open_search(directory / STUDY_FILE, basis, context.identity(basis))

        def told(trial: "FrozenTrial") -> None:
            outcome = "pruned" if trial.state.name == "PRUNED" else f"NDCG@10 {trial.values[0]:.4f}"
            best = f"; the best is trial {search.completed[0].number}" if search.completed else ""
            console.print(f"trial {trial.number}: {outcome}{best}")
            write_results(search, directory)

        write_results(search, directory)
        try:
            run_trials(search, Objective(split, item_count, basis, context), seconds=60 * minutes, told=told)
        except KeyboardInterrupt:
            console.print("Interrupted.")
        write_results(search, directory)
        console.print(table(search))
        if write_plot(search, directory):
            console.print(importances_table(search))
            console.print(f"What mattered is drawn in {directory / PLOT_FILE}")
        options = ["winnow", "train", "--interactions", str(interactions), "--settings", str(directory / SETTINGS_FILE)]
        console.print(f"Train with: {shlex.join([*options, *log_format.options()])}", markup=False)
