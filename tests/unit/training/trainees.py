"""What the tests of the trainees share: the planted log, and trainees on it."""

from collections.abc import Sequence
from io import StringIO
from pathlib import Path

import numpy as np
from rich.console import Console
from torch import Tensor

from tests.unit.training.planted import planted_histories
from tests.unit.training.settings import TINY
from winnow.logs.side_values import SideValues
from winnow.logs.split import LogSplit
from winnow.networks.candidate import DeepCandidateGenerationModel
from winnow.training.candidate_trainee import CandidateTrainee
from winnow.training.presets import CandidateSettings, RankingSettings
from winnow.training.run_context import RunContext
from winnow.training.watch_ranking_trainee import WatchRankingTrainee

ITEM_COUNT = 40
SPLIT = LogSplit.leave_last_out(planted_histories())


def context_in(checkpoints: Path, *, resume: bool = False, data: str = "planted", seed: int = 5) -> RunContext:
    return RunContext(seed=seed, data=data, checkpoints=checkpoints, console=Console(file=StringIO()), resume=resume)


NOWHERE = context_in(Path("never written"))


def candidate_trainee(
    settings: CandidateSettings = TINY.candidate,
    sides: Sequence[SideValues] = (),
    parts: Sequence[SideValues] = (),
) -> CandidateTrainee:
    return CandidateTrainee(SPLIT, SPLIT.watch_counts(ITEM_COUNT), settings, NOWHERE, sides=sides, parts=parts)


def ranking_trainee(
    network: DeepCandidateGenerationModel, settings: RankingSettings, split: LogSplit = SPLIT
) -> WatchRankingTrainee:
    # Every watch is an example: the planted log has too few to hold some back.
    nothing = np.zeros(len(split.training.rows), dtype=np.bool_)
    return WatchRankingTrainee(split, network, settings, NOWHERE, held_back=nothing)


def weights(trainee: CandidateTrainee | WatchRankingTrainee) -> dict[str, Tensor]:
    found: dict[str, Tensor] = trainee.network.state_dict()
    return found
