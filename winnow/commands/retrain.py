"""`winnow retrain`: the next release, from what users did since the last one."""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from winnow.commands.computing import Device, Threads, set_up_torch
from winnow.commands.export_log import AnswerLogs, ShownOption, SkipBadRows, UsersStore
from winnow.commands.failures import one_line_errors
from winnow.commands.train import NOT_PUBLISHED


def retrain(
    users_store: UsersStore,
    answer_log: AnswerLogs = None,
    items: Annotated[Path | None, typer.Option(help="The items file, as for winnow train.")] = None,
    releases: Annotated[
        Path, typer.Option(help="Directory of the releases. The current one is where it begins.")
    ] = Path("releases"),
    work: Annotated[Path, typer.Option(help="Directory for the exported files and the state of the training.")] = Path(
        "runs/retrain"
    ),
    margin: Annotated[
        float,
        typer.Option(min=0, max=1, help="How much lower than that of the current release its NDCG@10 may be."),
    ] = 0.01,
    settings_file: Annotated[
        Path | None,
        typer.Option("--settings", help="TOML file of settings that differ from those of the current release."),
    ] = None,
    candidate_epochs: Annotated[int | None, typer.Option(min=1, help="Overrides the current release.")] = None,
    ranking_epochs: Annotated[int | None, typer.Option(min=1, help="Overrides the current release.")] = None,
    seed: Annotated[int | None, typer.Option(help="Overrides the current release.")] = None,
    shown: ShownOption = "answers",
    skip_bad_rows: SkipBadRows = False,
    device: Device = "cpu",
    threads: Threads = None,
) -> None:
    """Export, train from the weights of the current release, and publish what is not worse than that.

    The exit status is 0 where the new release is current, 3 where the current one was kept, 1 for an error and 2 for a
    wrong argument.
    """
    import dataclasses

    from winnow.loop.retrain import RetrainInputs, settings_of
    from winnow.loop.retrain import retrain as run_retraining
    from winnow.release.reader import open_current_release
    from winnow.training.distributed.processes import check_alone
    from winnow.training.settings_file import read_settings

    chosen_device = set_up_torch(device, threads)
    console = Console(emoji=False, highlight=False)
    inputs = RetrainInputs(
        users_store=users_store,
        answer_logs=answer_log or [],
        items=items,
        releases=releases,
        work=work,
        shown=shown,
        skip_bad_rows=skip_bad_rows,
    )
    with one_line_errors(ValueError):
        check_alone("winnow retrain")
        base = open_current_release(releases)
        settings = settings_of(base)
        if settings_file is not None:
            settings = read_settings(settings_file, settings)
        settings = dataclasses.replace(
            settings,
            seed=settings.seed if seed is None else seed,
            candidate=dataclasses.replace(settings.candidate, epochs=candidate_epochs or settings.candidate.epochs),
            ranking=dataclasses.replace(settings.ranking, epochs=ranking_epochs or settings.ranking.epochs),
        )
        result = run_retraining(inputs, base, settings, margin=margin, device=chosen_device, console=console)
    if result.verdict is not None:
        console.print(str(result.verdict), soft_wrap=True)
    if result.current:
        console.print(f"Release {result.release_id} is current in {releases}: {result.reason}", soft_wrap=True)
        console.print(f"To roll back: winnow publish {base.release_id} --releases {releases}", soft_wrap=True)
        return
    kept = f"Release {base.release_id} stays current in {releases}: {result.reason}"
    console.print(kept, soft_wrap=True)
    if result.release_id is not None:
        new = f"winnow publish {result.release_id} --releases {releases}"
        console.print(f"To make the new release current all the same: {new}", soft_wrap=True)
    raise typer.Exit(NOT_PUBLISHED)
