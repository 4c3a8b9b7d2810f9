"""The plan of a run names its epochs and steps, and measuring it changes nothing."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from rich.console import Console

from tests.unit.training.planted import planted_histories
from tests.unit.training.settings import TINY
from winnow.logs.split import LogSplit
from winnow.training.plan import NetworkPlan, describe, duration, plan_on_watches
from winnow.training.run_context import RunContext
from winnow.training.train_on_watches import train_on_watches


def test_the_plan_is_of_the_run_and_leaves_it_as_it_is(tmp_path: Path) -> None:
    split = LogSplit.leave_last_out(planted_histories())
    settings = replace(TINY, candidate=replace(TINY.candidate, epochs=1), ranking=replace(TINY.ranking, epochs=1))
    context = RunContext(seed=3, data="", checkpoints=tmp_path, console=Console(quiet=True))
    plain = train_on_watches(split, 40, (), settings, context)
    state = torch.get_rng_state()
    candidate, ranking = plan_on_watches(split, 40, (), settings, context)
    assert torch.equal(state, torch.get_rng_state())
    planned = train_on_watches(split, 40, (), settings, context)
    assert plain.figures == planned.figures
    assert (candidate.name, candidate.epochs, candidate.steps_per_epoch) == ("candidate", 1, 15)
    assert (ranking.name, ranking.epochs) == ("ranking", 1)
    assert ranking.steps_per_epoch >= 1
    assert candidate.epoch_seconds > 0


def test_a_plan_is_described_network_by_network() -> None:
    plans = [
        NetworkPlan(name="candidate", epochs=5, steps_per_epoch=1200, epoch_seconds=70.0),
        NetworkPlan(name="ranking", epochs=2, steps_per_epoch=30, epoch_seconds=10.0),
    ]
    assert describe(plans).splitlines() == [
        "Plan: about 6 minutes of training",
        "  candidate network: 5 epochs of 1,200 steps, about 70 seconds each",
        "  ranking network: 2 epochs of 30 steps, about 10 seconds each",
    ]


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [(0.01, "1 second"), (1.6, "2 seconds"), (119, "119 seconds"), (120, "2 minutes"), (7200, "2 hours")],
)
def test_durations(seconds: float, shown: str) -> None:
    assert duration(seconds) == shown
