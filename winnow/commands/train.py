"""`winnow train`: from an interaction log to a release."""

from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer
from rich.console import Console

from winnow.commands.computing import Device, Threads, set_up_torch
from winnow.commands.failures import one_line_errors
from winnow.commands.log_options import reads_a_log
from winnow.evaluation.figures_table import GAIN_OF_RANKING, IMPRESSIONS, figures_table, impressions_table, in_words
from winnow.logs.log_format import LogFormat

if TYPE_CHECKING:
    from winnow.training.run import RunResult

# Exit status: 1 is an error and 2 a wrong argument.
NOT_PUBLISHED = 3


@reads_a_log
def train(
    log_format: LogFormat,
    interactions: Annotated[
        Path,
        typer.Option(
            help="CSV, JSON lines or Parquet with the columns user_id, item_id, timestamp and optionally weight, or a "
            "folder of parts (winnow data parts)."
        ),
    ],
    items: Annotated[
        Path | None, typer.Option(help="CSV, JSON lines or Parquet with the columns item_id, title and any others.")
    ] = None,
    impressions: Annotated[
        Path | None,
        typer.Option(
            help="CSV, JSON lines or Parquet with the columns user_id, item_id, timestamp, clicked and watch_seconds. "
            "Ranking then learns from it."
        ),
    ] = None,
    attribute_types: Annotated[
        str,
        typer.Option(
            help="Types of columns of the items file: 'genres:list, year:number, description:skip'. The others are "
            "inferred."
        ),
    ] = "",
    new_items_by: Annotated[
        str,
        typer.Option(
            help="Attributes such as 'genres,year', from which items that come later get their vectors: `winnow items` "
            "can add them then."
        ),
    ] = "",
    releases: Annotated[Path, typer.Option(help="Directory of the releases.")] = Path("releases"),
    checkpoints: Annotated[Path, typer.Option(help="Directory for the state of this run.")] = Path("runs/latest"),
    preset: Annotated[
        str,
        typer.Option(
            help="Name of the settings: auto, which follow from the log (winnow/training/automatic.py), or one of "
            "winnow/training/presets.py."
        ),
    ] = "auto",
    settings_file: Annotated[
        Path | None, typer.Option("--settings", help="TOML file of settings that differ from the preset.")
    ] = None,
    split: Annotated[str | None, typer.Option(help="What is held out: leave-last-out or global-time.")] = None,
    seed: Annotated[int | None, typer.Option(help="Overrides the preset.")] = None,
    vocabulary_size: Annotated[int | None, typer.Option(min=1, help="Overrides the preset.")] = None,
    min_item_count: Annotated[int | None, typer.Option(min=1, help="Overrides the preset.")] = None,
    candidate_epochs: Annotated[int | None, typer.Option(min=1, help="Overrides the preset.")] = None,
    ranking_epochs: Annotated[int | None, typer.Option(min=1, help="Overrides the preset.")] = None,
    device: Device = "cpu",
    threads: Threads = None,
    publish: Annotated[
        Literal["not-worse", "always", "never"],
        typer.Option(
            help="Make the release current: not-worse (unless the current release or the best baseline is better on "
            "validation beyond noise), always or never."
        ),
    ] = "not-worse",
    resume: Annotated[
        bool, typer.Option("--resume", help="Continue the run in --checkpoints, if there is one.")
    ] = False,
) -> None:
    """Train both networks on a log, measure them on its held-out part and write a release.

    The exit status is 3 where the release was written but is not good enough to become the current one.
    """
    import dataclasses

    from winnow.catalogue.inference import parse_types
    from winnow.locks import only_process_in
    from winnow.logs.split import SPLITS
    from winnow.logs.statistics import LogStatistics
    from winnow.training import automatic
    from winnow.training.distributed.processes import ShareDone, joined_processes, launched
    from winnow.training.presets import PRESETS, TrainingSettings
    from winnow.training.run import RunPaths, run
    from winnow.training.settings_file import SettingsError, read_settings

    # From a log of impressions nothing is chosen: one preset learns from them.
    if preset == automatic.NAME and impressions is not None:
        preset = "kuairand"
    if preset != automatic.NAME and preset not in PRESETS:
        raise typer.BadParameter(f"there is no preset {preset!r}, only {', '.join([automatic.NAME, *PRESETS])}")
    basis = automatic.BASIS if preset == automatic.NAME else PRESETS[preset]
    if impressions is not None and basis.impressions is None:
        fit = ", ".join(name for name, settings in PRESETS.items() if settings.impressions is not None)
        raise typer.BadParameter(f"the preset {preset!r} cannot learn from impressions, only {fit}")
    if split is not None and split not in SPLITS:
        raise typer.BadParameter(f"there is no split {split!r}, only {', '.join(SPLITS)}")
    parts = tuple(filter(None, map(str.strip, new_items_by.split(","))))
    if parts and items is None:
        raise typer.BadParameter("--new-items-by needs --items: that is where attributes come from")
    try:
        types = parse_types(attribute_types)
    except ValueError as error:
        raise typer.BadParameter(f"--attribute-types: {error}") from None

    def with_given(chosen: TrainingSettings) -> TrainingSettings:
        """Return the settings with those of the file and, on top, of the options."""
        chosen = chosen if settings_file is None else read_settings(settings_file, chosen)
        return dataclasses.replace(
            chosen,
            split=split or chosen.split,
            seed=chosen.seed if seed is None else seed,
            vocabulary_size=vocabulary_size or chosen.vocabulary_size,
            min_item_count=min_item_count or chosen.min_item_count,
            candidate=dataclasses.replace(
                chosen.candidate,
                epochs=candidate_epochs or chosen.candidate.epochs,
                new_items_by=parts or chosen.candidate.new_items_by,
            ),
            ranking=dataclasses.replace(chosen.ranking, epochs=ranking_epochs or chosen.ranking.epochs),
            impressions=chosen.impressions
            and dataclasses.replace(chosen.impressions, epochs=ranking_epochs or chosen.impressions.epochs),
        )

    def choose(statistics: LogStatistics) -> automatic.Choice:
        choice = automatic.choose(statistics)
        return dataclasses.replace(choice, settings=with_given(choice.settings))

    with one_line_errors(SettingsError):
        settings = with_given(basis)
    chosen_device = set_up_torch(device, threads)
    console = Console(emoji=False, highlight=False)
    paths = RunPaths(
        interactions=interactions,
        items=items,
        impressions=impressions,
        releases=releases,
        checkpoints=checkpoints,
        log_format=log_format,
    )
    together = joined_processes(chosen_device) if launched() else nullcontext()
    # Two runs would write over each other's checkpoints. The processes of one run share them.
    alone = nullcontext() if launched() else only_process_in(checkpoints)
    with one_line_errors(ValueError), alone, together as processes:
        try:
            result = run(
                paths,
                settings,
                resume=resume,
                device=chosen_device if processes is None else processes.device,
                console=console if processes is None or processes.rank == 0 else Console(quiet=True),
                attribute_types=types,
                publish=publish,
                choose=choose if preset == automatic.NAME else None,
                processes=processes,
            )
        except ShareDone:
            return
    _print_result(console, result, releases)
    if publish == "not-worse" and not result.current:
        console.print(
            "To make it current all the same: the same command with --resume --publish always", soft_wrap=True
        )
        raise typer.Exit(NOT_PUBLISHED)


def _print_result(console: Console, result: "RunResult", releases: Path) -> None:
    for part, figures in result.figures.items():
        console.print(figures_table(f"{part}: held-out watches among all unseen items", figures))
        if IMPRESSIONS in figures:
            console.print(impressions_table(f"{part}: later impressions", figures[IMPRESSIONS]))
        if GAIN_OF_RANKING in figures:
            console.print(in_words(part, figures[GAIN_OF_RANKING]), soft_wrap=True)
    if result.verdict is not None:
        console.print(str(result.verdict), soft_wrap=True)
    state = f"is current in {releases}" if result.current else f"was written to {releases}, but is not current"
    console.print(f"Release {result.release_id} {state}", soft_wrap=True)
