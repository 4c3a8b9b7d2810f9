"""A whole training run: from input files to a release."""

import dataclasses
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console

from winnow.catalogue.attribute_codes import AttributeCodes, ItemCodes
from winnow.catalogue.schema import AttributeType
from winnow.catalogue.vocabulary import Vocabulary
from winnow.evaluation.gate import Verdict
from winnow.logs.blocks import count_rows
from winnow.logs.impression_log import ImpressionLog
from winnow.logs.interactions import Interactions, read_interactions
from winnow.logs.items_file import NO_TYPES, ItemDescriptions, read_item_facts, read_items
from winnow.logs.log_format import PLAIN_LOG, LogFormat
from winnow.logs.side_values import SideValues, coded_values, fit_codes, side_values
from winnow.logs.split import SPLITS, LogSplit, checked
from winnow.logs.statistics import LogStatistics
from winnow.logs.trending import trending_items
from winnow.release.models.writer import ReleaseContents, write_release
from winnow.release.reader import Release
from winnow.training.automatic import Choice
from winnow.training.distributed.own_part import OwnPart
from winnow.training.distributed.processes import Processes
from winnow.training.distributed.read_own_part import read_own_part
from winnow.training.distributed.supported import check_supported
from winnow.training.plan import describe, plan_on_impressions, plan_on_watches
from winnow.training.presets import CandidateSettings, ImpressionSettings, TrainingSettings
from winnow.training.publishing import Publish, compare_on_validation
from winnow.training.run_context import RunContext, choose_precision
from winnow.training.train_on_impressions import train_on_impressions
from winnow.training.train_on_watches import finish, train_on_watches
from winnow.training.trained_networks import TrainedNetworks
from winnow.training.warm_start import WarmStart


@dataclass(frozen=True, kw_only=True)
class RunPaths:
    """What a run reads and where it writes."""

    interactions: Path
    items: Path | None
    releases: Path
    checkpoints: Path
    impressions: Path | None = None
    log_format: LogFormat = PLAIN_LOG


@dataclass(frozen=True, kw_only=True)
class RunResult:
    """The release that a run wrote, and its figures by part of the data and by what was measured.

    `verdict` is None where ranking learned from impressions, and nothing was compared.
    """

    release_id: str
    figures: Mapping[str, Mapping[str, Mapping[str, float]]]
    verdict: Verdict | None
    current: bool
    """Whether the release is the current one now."""


def run(
    paths: RunPaths,
    settings: TrainingSettings,
    *,
    resume: bool,
    device: torch.device,
    console: Console,
    attribute_types: Mapping[str, AttributeType | None] = NO_TYPES,
    publish: Publish = "not-worse",
    choose: Callable[[LogStatistics], Choice] | None = None,
    start: Release | None = None,
    processes: Processes | None = None,
) -> RunResult:
    """Train both networks, measure them and write a release. With a log of impressions, ranking learns from that.

    `choose` replaces the settings by those that fit the statistics of the training watches. It must keep those that the
    log is read and split by, and the seed.

    `publish` says whether the release is made current: "not-worse" does so unless, on validation, the current release
    or the best baseline is better beyond noise.

    `start` is an earlier release whose weights training on watches begins with: see WarmStart.

    `processes` are those that train together, see winnow.training.distributed; None is this one alone. All but the
    first raise ShareDone where the first goes on alone.

    `attribute_types` are types of columns of the items file, see `read_items`; the others are inferred, and all are
    printed.

    Nothing is written before all input has been read. Raises InputFileError where the input cannot be used, OSError
    where a directory cannot be written, CheckpointError where a checkpoint to resume from is of another run, and
    ValueError where the settings do not fit the input.
    """
    if processes is not None and paths.impressions is not None:
        raise ValueError("several processes cannot learn from impressions together: train on them in one process")
    log, descriptions = _read_log_and_items(paths, settings, attribute_types, console, processes)
    split = None
    if isinstance(log, OwnPart):
        split = log.split
    elif paths.impressions is None:
        split = checked(SPLITS[settings.split](log.histories), str(paths.interactions))
    choice = None
    if choose is not None and split is not None:
        of_all = log.statistics() if isinstance(log, OwnPart) else LogStatistics.of(split.training, len(log.vocabulary))
        choice = choose(of_all)
        settings = choice.settings
        for line in choice.decisions:
            console.print(line, markup=False, highlight=False, soft_wrap=True)
    data = _Data.of(log.vocabulary, descriptions, settings.candidate)
    context = RunContext(
        seed=settings.seed,
        data=" ".join([log.fingerprint, *data.fingerprints, settings.split]),
        checkpoints=paths.checkpoints,
        console=console,
        resume=resume,
        device=device,
        precision=choose_precision(settings.precision, device),
    )
    impressions_sha256 = None
    if isinstance(log, OwnPart):
        trained, interactions = _train_together(paths, log, data, settings, context, start)
    elif split is not None:
        interactions = log
        trained = _train_on_watches(paths, split, data, settings, context, start)
    else:
        interactions = log
        impressions, learning = _read_impressions(paths, interactions, settings, console)
        impressions_sha256 = impressions.fingerprint
        trained = _train_on_impressions(paths, impressions, data, settings.candidate, learning, context)
    verdict = None
    if trained.validated is not None:
        verdict = compare_on_validation(
            trained.validated, interactions.vocabulary, settings.split, paths.releases, device, console
        )
    current = publish == "always" or (publish == "not-worse" and (verdict is None or verdict.passed))
    release_id = write_release(
        paths.releases,
        ReleaseContents(
            vocabulary=interactions.vocabulary,
            candidate_network=trained.candidate_network.cpu(),
            ranking_network=trained.ranking_network.cpu(),
            popularity=_shares(count_rows(interactions.histories.rows, len(interactions.vocabulary))),
            trending=trending_items(interactions.histories, len(interactions.vocabulary)),
            attributes=descriptions.attributes,
            codes=data.codes,
            sample_histories=trained.sample_histories,
            sample_contexts=trained.sample_contexts,
            tuning_histories=trained.tuning_histories,
            training=_provenance(settings, interactions, trained)
            | {"impressions_sha256": impressions_sha256, "attribute_types": dict(attribute_types)}
            | {"automatic": None if choice is None else choice.as_json()}
            | {"started_from": start and start.release_id}
            | {"compared_with": [] if verdict is None else [dataclasses.asdict(rival) for rival in verdict.rivals]},
            figures=trained.figures,
        ),
        make_current=current,
    )
    return RunResult(release_id=release_id, figures=trained.figures, verdict=verdict, current=current)


@dataclass(frozen=True, kw_only=True, eq=False)
class _Data:
    """The items of the log, and those of their attributes that the candidate network learns from."""

    vocabulary: Vocabulary
    sides: Sequence[SideValues]
    """Of the attributes of watched items."""
    parts: Sequence[SideValues]
    """Of those that items to come get their vectors from."""
    codes: ItemCodes
    """How the values of both are numbered."""

    @classmethod
    def of(cls, vocabulary: Vocabulary, descriptions: ItemDescriptions, settings: CandidateSettings) -> "_Data":
        sides = [side_values(descriptions.columns, column) for column in settings.attribute_columns]
        part_codes = fit_codes(descriptions.attributes, settings.new_items_by)
        watched = [
            AttributeCodes(name=name, texts=side.texts)
            for name, side in zip(settings.attribute_columns, sides, strict=True)
        ]
        return cls(
            vocabulary=vocabulary,
            sides=sides,
            parts=[coded_values(codes, descriptions.attributes) for codes in part_codes],
            codes=ItemCodes(watched=tuple(watched), parts=tuple(part_codes)),
        )

    @property
    def item_count(self) -> int:
        return len(self.vocabulary)

    @property
    def fingerprints(self) -> list[str]:
        """Of the attributes."""
        return [side.fingerprint for side in (*self.sides, *self.parts)]


def _read_log_and_items(
    paths: RunPaths,
    settings: TrainingSettings,
    attribute_types: Mapping[str, AttributeType | None],
    console: Console,
    processes: Processes | None,
) -> tuple[Interactions | OwnPart, ItemDescriptions]:
    """Read both files, of the log this process's part, and print what is in them. Raises InputFileError."""
    log: Interactions | OwnPart
    if processes is None:
        log = _read_log(paths, settings)
    else:
        log = read_own_part(
            paths.interactions,
            processes,
            vocabulary_size=settings.vocabulary_size,
            min_item_count=settings.min_item_count,
            log_format=paths.log_format,
        )
    for remark in log.rows.remarks():
        console.print(remark, markup=False, soft_wrap=True)
    descriptions = read_items(paths.items, log.vocabulary, attribute_types, paths.log_format)
    lengths = log.log_lengths if isinstance(log, OwnPart) else log.histories.lengths
    console.print(f"{int(lengths.sum()):,} watches of {len(log.vocabulary):,} items by {len(lengths):,} users")
    for name, column_type in descriptions.types.items():
        console.print(f"attribute {name}: {column_type}", markup=False)
    return log, descriptions


def _read_log(paths: RunPaths, settings: TrainingSettings) -> Interactions:
    return read_interactions(
        paths.interactions,
        vocabulary_size=settings.vocabulary_size,
        min_item_count=settings.min_item_count,
        log_format=paths.log_format,
    )


def _read_impressions(
    paths: RunPaths, interactions: Interactions, settings: TrainingSettings, console: Console
) -> tuple[ImpressionLog, ImpressionSettings]:
    """Read the log of impressions, and return it with the settings to learn from it by."""
    learning = settings.impressions
    if learning is None or paths.impressions is None:
        raise ValueError("the settings do not say how to learn from impressions")
    log = ImpressionLog.read(
        paths.impressions,
        interactions,
        validation_share=learning.validation_share,
        test_share=learning.test_share,
        log_format=paths.log_format,
    )
    for remark in log.rows_read.remarks():
        console.print(f"impressions: {remark}", markup=False, soft_wrap=True)
    return log, learning


def _train_on_watches(
    paths: RunPaths,
    split: LogSplit,
    data: _Data,
    settings: TrainingSettings,
    context: RunContext,
    start: Release | None,
) -> TrainedNetworks:
    """Train both networks on watches."""
    _check_writable(paths.checkpoints, paths.releases)
    if not context.continues:
        planned = plan_on_watches(split, data.item_count, data.sides, settings, context)
        context.console.print(describe(planned), highlight=False)
    facts = None
    if settings.ranking.features:
        popularity = _shares(split.watch_counts(data.item_count))
        facts = read_item_facts(paths.items, data.vocabulary, popularity, paths.log_format)
    return train_on_watches(
        split,
        data.item_count,
        data.sides,
        settings,
        context,
        parts=data.parts,
        facts=facts,
        start=None if start is None else WarmStart.of(start, data.vocabulary, data.codes),
    )


def _train_together(
    paths: RunPaths,
    own: OwnPart,
    data: _Data,
    settings: TrainingSettings,
    context: RunContext,
    start: Release | None,
) -> tuple[TrainedNetworks, Interactions]:
    """Train both networks on watches, together with other processes; return them and the whole log.

    Raises ShareDone in all processes but the first.
    """
    check_supported(settings, data.item_count, warm_start=start is not None)
    _check_writable(paths.checkpoints, *([] if own.processes.rank else [paths.releases]))
    # Only here: it takes a second to import.
    from winnow.training.distributed.train_together import train_together

    candidate_network, ranking_network, epochs = train_together(own, data.sides, settings, context)
    # This process alone goes on, with the whole log: on disk, as far as that is in parts.
    interactions = _read_log(paths, settings)
    own.check_same(interactions, str(paths.interactions))
    trained = finish(
        LogSplit.leave_last_out(interactions.histories),
        data.item_count,
        settings,
        context,
        candidate_network=candidate_network,
        ranking_network=ranking_network,
        epochs=epochs,
    )
    return trained, interactions


def _train_on_impressions(
    paths: RunPaths,
    log: ImpressionLog,
    data: _Data,
    candidate: CandidateSettings,
    learning: ImpressionSettings,
    context: RunContext,
) -> TrainedNetworks:
    """Train the candidate network on the watches before the impressions, and the ranking network on those."""
    facts = read_item_facts(paths.items, data.vocabulary, log.popularity, paths.log_format)
    _check_writable(paths.checkpoints, paths.releases)
    context = context.also_from(log.fingerprint)
    if not context.continues:
        planned = plan_on_impressions(log, facts, data.sides, candidate, learning, context)
        context.console.print(describe(planned), highlight=False)
    return train_on_impressions(log, facts, data.sides, candidate, learning, context, parts=data.parts)


def _check_writable(*directories: Path) -> None:
    """Fail before hours of training, not after them."""
    for directory in directories:
        directory.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=directory):
            pass


def _shares(counts: NDArray[np.int64]) -> NDArray[np.float32]:
    shares: NDArray[np.float32] = (counts / counts.sum()).astype(np.float32)
    return shares


def _provenance(settings: TrainingSettings, interactions: Interactions, trained: TrainedNetworks) -> dict[str, Any]:
    return {
        "settings": dataclasses.asdict(settings),
        "data_sha256": interactions.fingerprint,
        # Example age counts back from here; in serving it is zero.
        "max_training_timestamp": trained.max_training_timestamp,
        "user_count": len(interactions.user_ids),
        "watch_count": len(interactions.histories.rows),
        "torch_version": torch.__version__,
        "epochs": {network: log.epochs for network, log in trained.epochs.items()},
        "best_epochs": {network: log.best_epoch for network, log in trained.epochs.items()},
        "candidate_neighbours": trained.candidate_neighbours and dict(trained.candidate_neighbours),
        "neighbour_weights": trained.neighbour_weights and dict(trained.neighbour_weights),
        "correction_factors": trained.correction_factors and trained.correction_factors._asdict(),
    }
