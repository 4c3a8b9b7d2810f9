"""A release beside the baselines, on the held-out part of the log that it was trained on."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from winnow.evaluation.baselines import BASELINES, TooLargeError
from winnow.evaluation.impression_figures import impression_figures
from winnow.evaluation.recommender_figures import Answers, ask, ask_stages, gain, measure
from winnow.evaluation.recommenders import CandidateOrder, Chain, WithoutRetired, withhold
from winnow.logs.impression_log import ImpressionLog, ImpressionSplit
from winnow.logs.input_table import InputFileError
from winnow.logs.interactions import read_interactions
from winnow.logs.log_format import PLAIN_LOG, LogFormat
from winnow.logs.skipped_rows import RowsRead
from winnow.logs.split import SPLITS, HeldOut, LogSplit
from winnow.release.models.loader import load_candidate_network, load_ranking_network
from winnow.release.reader import Release

CANDIDATE, CHAIN = "candidate", "chain"
PARTS = ("validation", "test")
SEED = 1
# What a caller may not know about the watches: their weights, their timestamps.
ALL_SENT = {"": (False, False)}
WITHHELD = {"weights": (True, False), "timestamps": (False, True), "either": (True, True)}


@dataclass(frozen=True, kw_only=True, eq=False)
class EvaluationLog:
    """The log that a release was trained on, split as in training.

    `impressions` and `impression_rows` are None where ranking was trained on watches.
    """

    split: LogSplit
    watch_counts: NDArray[np.int64]
    impressions: ImpressionSplit | None
    rows: RowsRead
    """What became of the rows of the log."""
    impression_rows: RowsRead | None = None

    @classmethod
    def read(
        cls,
        release: Release,
        interactions_path: Path,
        impressions_path: Path | None,
        log_format: LogFormat = PLAIN_LOG,
    ) -> "EvaluationLog":
        """Read the log of a release.

        Raises InputFileError where a file cannot be used or is not what the release was trained on: figures on watches
        that it has learned would mean nothing. Raises ValueError where the log of impressions is missing or not needed.
        """
        training = release.manifest.training
        settings = training.get("settings", {})
        interactions = read_interactions(
            interactions_path,
            vocabulary_size=settings.get("vocabulary_size", release.manifest.item_count),
            min_item_count=settings.get("min_item_count", 1),
            log_format=log_format,
        )
        _check_fingerprint(interactions_path, interactions.fingerprint, release, "data_sha256")
        if (training.get("impressions_sha256") is None) is not (impressions_path is None):
            was, do = ("not ", "leave out") if impressions_path else ("", "give the log of impressions with")
            raise ValueError(f"release {release.release_id} was {was}trained on impressions: {do} --impressions")
        impressions, impression_rows = None, None
        if impressions_path is None:
            split = SPLITS[settings.get("split", "leave-last-out")](interactions.histories)
        else:
            shares = {name: settings["impressions"][name] for name in ("validation_share", "test_share")}
            log = ImpressionLog.read(impressions_path, interactions, **shares, log_format=log_format)
            _check_fingerprint(impressions_path, log.fingerprint, release, "impressions_sha256")
            split, impressions, impression_rows = log.earlier_watches, log.impressions, log.rows_read
        return cls(
            split=split,
            # Items that were added without training have no watches here.
            watch_counts=split.watch_counts(release.manifest.item_count),
            impressions=impressions,
            rows=interactions.rows,
            impression_rows=impression_rows,
        )

    def remarks(self) -> Iterator[str]:
        """Say what became of the rows of the log, line by line."""
        yield from self.rows.remarks()
        if self.impression_rows is not None:
            yield from (f"impressions: {remark}" for remark in self.impression_rows.remarks())

    def held_out(self, part: str) -> HeldOut:
        """Return the held-out watches of one of PARTS. Raises ValueError where there are none."""
        if part not in self.split.held_out:
            raise ValueError(f"no watch of this log is held out for the {part}")
        return self.split.held_out[part]


@dataclass(frozen=True, kw_only=True, eq=False)
class Compared:
    """One recommender's answers and figures for one part of the log.

    `withheld` says that it did not see everything that the log knows about the watches. `calibration` is that of the
    chain's probabilities, and `gain` by how much the chain is better than the candidate order; empty for others.
    """

    name: str
    withheld: bool
    part: str
    answers: Answers
    figures: dict[str, float]
    calibration: list[dict[str, float]]
    gain: dict[str, float]


@dataclass(frozen=True, kw_only=True)
class LeftOut:
    """A baseline that does not fit this log, and why."""

    name: str
    reason: str


Report = Callable[[str, int, int], None]
"""Is told what is being measured, how many held-out watches have been answered, and how many there are."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Comparison:
    """All that was measured. `impressions` has the figures of a ranking network that was trained on them, by part."""

    release: Release
    log: EvaluationLog
    compared: Sequence[Compared]
    left_out: Sequence[LeftOut]
    impressions: Mapping[str, Mapping[str, float]]

    def of_part(self, part: str) -> list[Compared]:
        """Return what was compared on one part of the log."""
        return [one for one in self.compared if one.part == part]


def compare(
    release: Release,
    log: EvaluationLog,
    *,
    parts: Sequence[str],
    baselines: Sequence[str],
    withheld: bool,
    device: torch.device,
    report: Report,
) -> Iterator[Compared | LeftOut]:
    """Measure the stages of the release on held-out watches, then the baselines; yield each as soon as it is done.

    Where ranking learned from impressions, its scores say nothing about the next watch: only the candidate stage is
    measured here. With `withheld`, the stages are also asked without weights, without timestamps and without both.
    The retired items of the release are in no list, whoever makes it.
    Raises ImportError, before anything is computed, where a baseline needs the extra `train`.
    """
    if "als" in baselines:
        import implicit  # noqa: F401 - imported early, to fail early
    yield from _stages(release, log, parts, withheld, device, report)
    item_count, retired = release.manifest.item_count, release.retired()
    for name in baselines:
        report(f"{name}: learning", 0, 0)
        try:
            learned = BASELINES[name](log.split.training, item_count)
        except TooLargeError as error:
            yield LeftOut(name=name, reason=str(error))
            continue
        recommender = WithoutRetired(learned, retired) if len(retired) else learned
        for part in parts:
            held_out = log.held_out(part)
            advance = _advance(report, f"{part}, {name}", held_out)
            answers = ask(recommender, held_out, item_count - len(retired), advance=advance)
            yield _compared(name, part, answers, log)


def measure_on_impressions(
    release: Release, log: EvaluationLog, parts: Sequence[str], device: torch.device
) -> dict[str, dict[str, float]]:
    """Return the figures of a ranking network on later impressions, by part; empty where it learned from watches."""
    if log.impressions is None:
        return {}
    network = load_ranking_network(release, device)
    return {part: impression_figures(network, log.impressions.held_out[part]) for part in parts}


def _check_fingerprint(path: Path, found: str, release: Release, key: str) -> None:
    if found != release.manifest.training.get(key):
        raise InputFileError(
            f"{path} is not what release {release.release_id} was trained on: it may have learned what is held out here"
        )


def _stages(
    release: Release, log: EvaluationLog, parts: Sequence[str], withheld: bool, device: torch.device, report: Report
) -> Iterator[Compared]:
    candidate_network = load_candidate_network(release, device)
    retired = release.retired()
    item_count = release.manifest.item_count - len(retired)
    chain = None
    if log.impressions is None:
        settings = release.manifest.training.get("settings", {})
        candidate_count = int(settings.get("ranking", {}).get("candidate_count", 200))
        chain = Chain(candidate_network, load_ranking_network(release, device), candidate_count, retired)
    for what, (weights, timestamps) in (ALL_SENT | WITHHELD if withheld else ALL_SENT).items():
        seen = partial(withhold, weights=weights, timestamps=timestamps)
        behind = f" without {what}" if what else ""
        for part in parts:
            held_out = log.held_out(part)
            advance = _advance(report, f"{part}, {CANDIDATE if chain is None else 'both stages'}{behind}", held_out)
            if chain is None:
                answers = ask(
                    CandidateOrder(candidate_network, retired), held_out, item_count, seen=seen, advance=advance
                )
                yield _compared(CANDIDATE + behind, part, answers, log, withheld=bool(what))
                continue
            of_stages = ask_stages(chain, held_out, item_count, seen=seen, advance=advance)
            yield _compared(CANDIDATE + behind, part, of_stages.candidate, log, withheld=bool(what))
            gained = gain(of_stages.chain.ranks, of_stages.candidate.ranks, held_out.users, seed=SEED)
            of_chain = _compared(CHAIN + behind, part, of_stages.chain, log, withheld=bool(what))
            yield replace(of_chain, calibration=of_stages.calibration, gain=gained)


def _compared(name: str, part: str, answers: Answers, log: EvaluationLog, *, withheld: bool = False) -> Compared:
    return Compared(
        name=name,
        withheld=withheld,
        part=part,
        answers=answers,
        figures=measure(answers, log.watch_counts, seed=SEED),
        calibration=[],
        gain={},
    )


def _advance(report: Report, what: str, held_out: HeldOut) -> Callable[[int], None]:
    done = 0

    def advance(count: int) -> None:
        nonlocal done
        done += count
        report(what, done, len(held_out))

    return advance
