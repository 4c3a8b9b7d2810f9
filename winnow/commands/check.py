"""`winnow check`: whether a log can be trained on, and what training will take."""

import shlex
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.text import Text

from winnow.commands.computing import Device, Threads, set_up_torch
from winnow.commands.failures import one_line_errors
from winnow.commands.log_options import reads_a_log
from winnow.logs.log_format import LogFormat

if TYPE_CHECKING:
    from winnow.logs.inspection import ItemsInspection
    from winnow.logs.interactions import Interactions
    from winnow.training.presets import TrainingSettings

# Of ids.
SHOWN_IDS = 3


@reads_a_log
def check(
    log_format: LogFormat,
    interactions: Annotated[Path, typer.Argument(help="The interaction log, as for winnow train.")],
    items: Annotated[Path | None, typer.Option(help="The items file, as for winnow train.")] = None,
    attribute_types: Annotated[str, typer.Option(help="As for winnow train.")] = "",
    preset: Annotated[str, typer.Option(help="Estimate the training with this preset.")] = "auto",
    settings_file: Annotated[
        Path | None, typer.Option("--settings", help="TOML file of settings that differ from the preset.")
    ] = None,
    device: Device = "cpu",
    threads: Threads = None,
) -> None:
    """Say what is in a log and what is wrong with it, and measure what training on it takes.

    The exit status is 1 where winnow train would refuse the files.
    """
    from winnow.catalogue.inference import parse_types
    from winnow.logs.file_formats import InputFileError
    from winnow.logs.inspection import inspect_items, inspect_log
    from winnow.logs.interactions import select_interactions
    from winnow.logs.items_file import read_items
    from winnow.logs.split import SPLITS, checked
    from winnow.logs.statistics import LogStatistics
    from winnow.training import automatic
    from winnow.training.estimate import peak_memory_bytes
    from winnow.training.plan import describe, plan_on_watches
    from winnow.training.presets import PRESETS, TrainingSettings
    from winnow.training.run_context import RunContext, choose_precision
    from winnow.training.settings_file import read_settings

    if preset != automatic.NAME and preset not in PRESETS:
        raise typer.BadParameter(f"there is no preset {preset!r}, only {', '.join([automatic.NAME, *PRESETS])}")

    def with_given(chosen: TrainingSettings) -> TrainingSettings:
        return chosen if settings_file is None else read_settings(settings_file, chosen)

    chosen_device = set_up_torch(device, threads)
    console = Console(emoji=False, highlight=False, soft_wrap=True)
    with one_line_errors(ValueError):
        log = inspect_log(interactions, log_format)
        # What the preset auto makes of the order and the weights says what they are, too.
        said_below = set(islice(log.statistics.lines(), 1, None)) if preset == automatic.NAME else set()
        _say(console, str(interactions), [fact for fact in log.facts() if fact not in said_below], log.remarks())
        refusals = list(log.refusals())
        settings = with_given(automatic.BASIS if preset == automatic.NAME else PRESETS[preset])
        selected = select_interactions(
            log.watches, vocabulary_size=settings.vocabulary_size, min_item_count=settings.min_item_count
        )
        _say(console, f"With the preset {preset}", _used(selected, settings), ())
        if items is not None:
            compared = inspect_items(items, log)
            facts = [f"{compared.item_count:,} items"]
            try:
                given = parse_types(attribute_types)
                types = read_items(items, selected.vocabulary, given, log.log_format).types
                facts += [f"attribute {column}: {type_}" for column, type_ in types.items()]
            except ValueError as error:
                refusals.append(str(error))
            _say(console, str(items), facts, _unmatched(compared))
        try:
            split = checked(SPLITS[settings.split](selected.histories), str(interactions))
        except InputFileError as error:
            refusals.append(str(error))
        else:
            if preset == automatic.NAME:
                choice = automatic.choose(LogStatistics.of(split.training, len(selected.vocabulary)))
                _say(console, "Settings that follow from the watches that are trained on", choice.decisions, ())
                settings = with_given(choice.settings)
            context = RunContext(
                seed=settings.seed,
                data="",
                checkpoints=Path(),
                console=console,
                device=chosen_device,
                precision=choose_precision(settings.precision, chosen_device),
            )
            plan, *steps = describe(
                plan_on_watches(split, len(selected.vocabulary), (), settings, context)
            ).splitlines()
            memory = f"{peak_memory_bytes() / 2**30:.1f} GiB of memory, measured on a few steps"
            _say(console, f"{plan}, {memory}", map(str.strip, steps), ())
    for refusal in refusals:
        console.print(Text(f"error: {refusal}", style="red"))
    if refusals:
        raise typer.Exit(1)
    chosen = {"--items": items, "--attribute-types": attribute_types, "--preset": preset, "--settings": settings_file}
    options = [part for option, value in chosen.items() if value for part in (option, str(value))]
    command = ["winnow", "train", "--interactions", str(interactions), *options, *log_format.options()]
    console.print(f"Train with: {shlex.join(command)}", markup=False)


def _say(console: Console, title: str, facts: Iterable[str], remarks: Iterable[str]) -> None:
    console.print(title, style="bold", markup=False)
    for fact in facts:
        console.print(f"  {fact}", markup=False)
    for remark in remarks:
        console.print(Text(f"  note: {remark}", style="yellow"))


def _used(selected: "Interactions", settings: "TrainingSettings") -> Iterator[str]:
    rows = selected.rows
    yield f"{len(selected.vocabulary):,} items are learned, from {len(selected.histories.rows):,} watches"
    if rows.dropped_item_count:
        reason = f"fewer than {settings.min_item_count} watches (--min-item-count)"
        if len(selected.vocabulary) == settings.vocabulary_size:
            reason += f" or beyond the {settings.vocabulary_size:,} most frequent items (--vocabulary-size)"
        yield f"items that are left out: {rows.dropped_item_count:,}, with {rows.dropped_row_count:,} watches: {reason}"


def _unmatched(compared: "ItemsInspection") -> Iterator[str]:
    for ids, what in (
        (compared.unwatched, "ids without a watch in the log"),
        (compared.undescribed, "items of the log that are not in this file"),
    ):
        if ids:
            shown = ", ".join(map(repr, ids[:SHOWN_IDS])) + (", ..." if len(ids) > SHOWN_IDS else "")
            yield f"{what}: {len(ids):,} ({shown})"
