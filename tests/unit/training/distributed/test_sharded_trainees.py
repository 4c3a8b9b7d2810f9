"""Both networks trained by the sharded code in one process, against the plain trainees."""

from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import torch
from torch.distributed.device_mesh import init_device_mesh

from tests.unit.training.distributed.own_parts import whole_log
from tests.unit.training.settings import TINY
from tests.unit.training.trainees import ITEM_COUNT, SPLIT, candidate_trainee, context_in
from winnow.networks.watch_features import quantile_edges
from winnow.training.candidate_trainee import complete_options
from winnow.training.checkpoint import CheckpointError, EpochLog
from winnow.training.distributed.gathered_network import gather_networks
from winnow.training.distributed.processes import Processes
from winnow.training.distributed.sharded_candidate_trainee import ShardedCandidateTrainee
from winnow.training.distributed.sharded_checkpoint import ShardedCheckpoints
from winnow.training.distributed.sharded_ranking_trainee import ShardedRankingTrainee
from winnow.training.loop import train
from winnow.training.run_context import RunContext
from winnow.training.succession_counts import count_successions
from winnow.training.watch_ranking_trainee import WatchRankingTrainee

CANDIDATE = replace(TINY.candidate, softmax="sampled", epochs=2)
RANKING = replace(TINY.ranking, epochs=2)


def sharded_trainee(context: RunContext, processes: Processes) -> ShardedCandidateTrainee:
    options = complete_options(CANDIDATE, partial(quantile_edges, SPLIT.training.weights), (), ())
    own = whole_log(processes)
    return ShardedCandidateTrainee(own, own.watch_counts(), CANDIDATE, context, processes, options=options)


def store_in(directory: Path, processes: Processes) -> ShardedCheckpoints:
    mesh = init_device_mesh("cpu", (1,))
    return ShardedCheckpoints(directory=directory, item_count=ITEM_COUNT, mesh=mesh, processes=processes)


def assert_equal(found: EpochLog, expected: EpochLog) -> None:
    for of_epoch, expected_of_epoch in zip(found.epochs, expected.epochs, strict=True):
        assert of_epoch == pytest.approx(expected_of_epoch, abs=1e-5)


def test_both_networks_are_trained_as_by_the_plain_code_and_gathered(alone: Processes, tmp_path: Path) -> None:
    plain = candidate_trainee(CANDIDATE)
    expected = train(plain, context_in(tmp_path / "plain"))
    context, store = context_in(tmp_path), store_in(tmp_path, alone)
    sharded = sharded_trainee(context, alone)
    assert_equal(train(sharded, context, store), expected)

    plain_ranking = WatchRankingTrainee(SPLIT, plain.network, RANKING, context, held_back=plain.held_back)
    expected = train(plain_ranking, context_in(tmp_path / "plain"))
    successions = count_successions(
        SPLIT.training, ~plain.held_back, ITEM_COUNT, successors_per_item=RANKING.successors_per_item
    )
    ranking = ShardedRankingTrainee(
        whole_log(alone), sharded.network, RANKING, context, alone,
        held_back=plain.held_back, successions=successions,
    )  # fmt: skip
    assert_equal(train(ranking, context, store), expected)

    gathered = gather_networks(sharded.network, ranking.network, tmp_path, alone)
    assert gathered is not None
    for network, of_plain in zip(gathered, (plain.network, plain_ranking.network), strict=True):
        weights = of_plain.state_dict()
        assert set(network.state_dict()) == set(weights)
        for name, tensor in network.state_dict().items():
            torch.testing.assert_close(tensor, weights[name], rtol=0, atol=1e-3)
    # What tables were gathered in has no name any more.
    assert {path.suffix for path in tmp_path.iterdir()} == {".sharded", ""}


def test_a_run_continues_from_its_checkpoint_and_not_from_that_of_another(alone: Processes, tmp_path: Path) -> None:
    context, store = context_in(tmp_path), store_in(tmp_path, alone)
    whole = train(sharded_trainee(context, alone), context, store)
    (tmp_path / "candidate-2.sharded").rename(tmp_path / "aside")

    class StoppedError(Exception):
        pass

    def interrupt(*_: object) -> None:
        raise StoppedError

    with pytest.raises(StoppedError):
        train(sharded_trainee(context, alone), replace(context, after_epoch=interrupt), store)
    assert [path.name for path in tmp_path.glob("*.sharded")] == ["candidate-1.sharded"]
    resumed = train(sharded_trainee(context, alone), context_in(tmp_path, resume=True), store)
    assert resumed == whole
    with pytest.raises(CheckpointError, match=r"candidate-2\.sharded was made with other settings or data"):
        train(sharded_trainee(context, alone), context_in(tmp_path, resume=True, data="other"), store)
