"""From the stored events to the next release: export, train, compare with the current release, publish or not."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from pydantic import TypeAdapter, ValidationError
from rich.console import Console

from winnow.catalogue.schema import AttributeType
from winnow.evaluation.gate import Verdict, judge, ranks_of_release
from winnow.history import WatchHistories
from winnow.locks import only_process_in
from winnow.logs.interactions import Interactions, read_interactions
from winnow.logs.item_changes import no_changes
from winnow.logs.split import SPLITS, HeldOut, checked
from winnow.loop.export import WATCHES_FILE, export_from
from winnow.loop.join import Shown
from winnow.release.models.derivation import derive_release
from winnow.release.publication import point_current_at
from winnow.release.reader import Release, current_release_id, open_release
from winnow.training.presets import TrainingSettings
from winnow.training.run import RunPaths, run

# With fewer users, what the latest watches say is mostly noise: then all held-out watches are compared.
FEWEST_USERS = 100


@dataclass(frozen=True, kw_only=True)
class RetrainInputs:
    """What retraining reads, and where it writes."""

    users_store: str
    answer_logs: Sequence[Path]
    items: Path | None
    releases: Path
    work: Path
    """For the exported files and the state of the training."""
    shown: Shown = "answers"
    skip_bad_rows: bool = False


@dataclass(frozen=True, kw_only=True)
class Retrained:
    """What came of it."""

    release_id: str | None
    """The new release; None where there is nothing new to learn."""
    verdict: Verdict | None
    current: bool
    """Whether it is the current release now."""
    reason: str
    """Why, or why not."""


def settings_of(release: Release) -> TrainingSettings:
    """Return the settings that a release was trained with.

    Raises ValueError where this version cannot train with them, or not judge what it has trained.
    """
    training = release.manifest.training
    if training.get("impressions_sha256") is not None:
        raise ValueError(
            f"release {release.release_id} has learned from impressions: retrain it with winnow export-log and "
            f"winnow train --impressions"
        )
    try:
        return TypeAdapter(TrainingSettings).validate_python(training.get("settings"))
    except ValidationError as error:
        raise ValueError(
            f"release {release.release_id} does not say how it was trained: {error.errors()[0]['msg']}"
        ) from None


def retrain(
    inputs: RetrainInputs,
    base: Release,
    settings: TrainingSettings,
    *,
    margin: float,
    device: torch.device,
    console: Console,
) -> Retrained:
    """Train a release on the exported events, beginning with the weights of the current release `base`.

    It is made current unless its NDCG@10 on the latest held-out watches is more than `margin` below that of `base`.
    Raises ValueError where the input cannot be used or another process retrains in the same directory, and OSError.
    """
    trained_on = settings_of(base)
    if settings.split != trained_on.split:
        raise ValueError(
            f"release {base.release_id} was trained with the split {trained_on.split}, so it may have learned what "
            f"{settings.split} holds out: retrain with its split, or train anew with winnow train"
        )
    if inputs.items is None and len(base.attributes().schema):
        raise ValueError(f"release {base.release_id} has attributes of items: give the items file with --items")
    with only_process_in(inputs.work):
        exported = asyncio.run(
            export_from(
                inputs.users_store,
                inputs.answer_logs,
                inputs.work / "export",
                shown=inputs.shown,
                skip_bad_rows=inputs.skip_bad_rows,
            )
        )
        for line in exported.lines():
            console.print(line, markup=False, soft_wrap=True)
        watches = inputs.work / "export" / WATCHES_FILE
        interactions = read_interactions(
            watches, vocabulary_size=settings.vocabulary_size, min_item_count=settings.min_item_count
        )
        if interactions.fingerprint == base.manifest.training.get("data_sha256") and settings == trained_on:
            return Retrained(
                release_id=None,
                verdict=None,
                current=False,
                reason=f"there is no watch that {base.release_id} does not know",
            )
        held_out = latest_held_out(interactions, settings.split, _learned_until(base), str(watches), console)
        result = run(
            RunPaths(
                interactions=watches,
                items=inputs.items,
                releases=inputs.releases,
                checkpoints=inputs.work / "checkpoints",
            ),
            settings,
            resume=False,
            device=device,
            console=console,
            attribute_types=_attribute_types(base),
            publish="never",
            start=base,
        )
        new = _without_retired(open_release(inputs.releases / result.release_id), base)
        verdict = judge(
            ranks_of_release(new, interactions.vocabulary, held_out, device),
            {},
            {
                f"the current release {base.release_id}": ranks_of_release(
                    base, interactions.vocabulary, held_out, device
                )
            },
            held_out.users,
            part="the latest held-out watches",
        )
        return _publish(new, base, verdict, margin, inputs.releases)


def latest_held_out(
    interactions: Interactions, split: str, learned_until: int, source: str, console: Console
) -> HeldOut:
    """Return the test watches of the users who have watched something since a time, in seconds since 1970.

    Those of all users, where there are too few such users. Raises InputFileError, in which `source` names the log,
    where no watch is held out.
    """
    histories = interactions.histories
    test = checked(SPLITS[split](histories), source).test
    latest_U = np.full(len(histories), -1, dtype=np.int64)
    watched = np.flatnonzero(histories.lengths)
    latest_U[watched] = histories.timestamps[histories.offsets[1:][watched] - 1]
    chosen = np.flatnonzero(latest_U[test.users] > learned_until)
    user_count = len(np.unique(test.users[chosen]))
    if user_count < FEWEST_USERS:
        console.print(f"Only {user_count} users have watched something new: all held-out watches are compared")
        return test
    console.print(f"Compared are the held-out watches of {user_count:,} users who have watched something new")
    of_all = WatchHistories.of(test.histories)
    return HeldOut(
        histories=of_all.take(of_all.offsets[chosen], of_all.lengths[chosen]),
        targets=test.targets[chosen],
        users=test.users[chosen],
    )


def _publish(new: Release, base: Release, verdict: Verdict, margin: float, releases: Path) -> Retrained:
    def outcome(reason: str, *, current: bool) -> Retrained:
        return Retrained(release_id=new.release_id, verdict=verdict, current=current, reason=reason)

    [rival] = verdict.rivals
    if rival.difference < -margin:
        return outcome(f"it is worse than {base.release_id} by more than {margin:g}", current=False)
    if current_release_id(releases) != base.release_id:
        return outcome(f"{current_release_id(releases)} has become current in the meantime", current=False)
    point_current_at(releases, new.release_id)
    return outcome(f"it is not worse than {base.release_id} by more than {margin:g}", current=True)


def _without_retired(new: Release, base: Release) -> Release:
    """Retire in a new release what is retired in the current one."""
    known = new.vocabulary()
    retired = [item_id for item_id in base.vocabulary().item_ids(base.retired().tolist()) if item_id in known]
    if not retired:
        return new
    made = derive_release(new, no_changes(), retire=retired, restore=(), make_current=False)
    return open_release(new.path.parent / made.release_id)


def _learned_until(release: Release) -> int:
    return int(release.manifest.training.get("max_training_timestamp", 0))


def _attribute_types(release: Release) -> dict[str, AttributeType | None]:
    given = release.manifest.training.get("attribute_types", {})
    return {name: None if type_ is None else AttributeType(type_) for name, type_ in given.items()}
