"""Training on the planted log has to learn what is planted; the same seed has to give the same, resumed or not."""

from collections.abc import Sequence
from dataclasses import replace
from io import StringIO
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
import torch
from rich.console import Console
from torch import Tensor
from torch.nn.functional import cross_entropy

from tests.unit.training.planted import planted_histories
from tests.unit.training.settings import TINY
from winnow.evaluation.ranks import candidate_ranks, chain_ranks, figures, popularity_ranks, top_candidates
from winnow.history import WatchHistories
from winnow.logs.rollback import visible_before
from winnow.logs.side_values import SideValues
from winnow.logs.split import LogSplit
from winnow.networks.candidate import DeepCandidateGenerationModel
from winnow.training.candidate_trainee import CandidateStage
from winnow.training.checkpoint import CheckpointError, EpochLog
from winnow.training.loop import Stage, learning_rate_factor, train
from winnow.training.precision import Precision
from winnow.training.presets import CandidateSettings, RankingSettings
from winnow.training.watch_ranking_trainee import RankingStage, build_ranking_network

CPU = torch.device("cpu")
FLOAT32 = Precision.choose("float32", CPU)


@pytest.fixture(scope="module")
def split() -> LogSplit:
    return LogSplit.leave_last_out(planted_histories())


def watch_counts(split: LogSplit) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    return np.bincount(split.training.rows, minlength=40)


# Beside the group of each item, something that does not matter, and that the first items do not have.
SIDES = [
    SideValues(values=np.arange(40, dtype=np.int32)[:, None] % 2 + 1, value_count=2),
    SideValues(
        values=np.stack([np.arange(40, dtype=np.int32) // 9, np.arange(40, dtype=np.int32) // 13], 1), value_count=4
    ),
]


def candidate_stage(
    split: LogSplit, settings: CandidateSettings = TINY.candidate, sides: Sequence[SideValues] = ()
) -> CandidateStage:
    return CandidateStage(split, watch_counts(split), settings, sides=sides, seed=5, precision=FLOAT32, device=CPU)


def ranking_stage(split: LogSplit, network: DeepCandidateGenerationModel, settings: RankingSettings) -> RankingStage:
    # Every watch is an example: the planted log has too few to hold some back.
    nothing = np.zeros(len(split.training.rows), dtype=np.bool_)
    return RankingStage(split, network, settings, held_back=nothing, seed=5, device=CPU)


def run(stage: Stage, path: Path, *, epochs: int, resume: bool = False, identity: str = "planted") -> EpochLog:
    console = Console(file=StringIO())
    return train(stage, epochs=epochs, seed=5, identity=identity, checkpoint=path, resume=resume, console=console)


@pytest.fixture(scope="module")
def trained(split: LogSplit, tmp_path_factory: pytest.TempPathFactory) -> DeepCandidateGenerationModel:
    stage = candidate_stage(split)
    run(stage, tmp_path_factory.mktemp("checkpoints") / "candidate.safetensors", epochs=TINY.candidate.epochs)
    return stage.network


def share_of_own_group(network: DeepCandidateGenerationModel, split: LogSplit) -> float:
    """Of the nine best candidates: each user has left nine or more items of the group unseen."""
    tops = top_candidates(network, split.test.histories, candidate_count=9)
    groups = torch.from_numpy(split.test.targets % 2).unsqueeze(1)
    return float((tops % 2 == groups).float().mean())


@pytest.mark.parametrize("softmax", ["full", "sampled"])
@pytest.mark.parametrize("bag_decays", [None, (0.0, 0.5)])
def test_candidates_are_of_the_users_group(
    split: LogSplit,
    softmax: Literal["full", "sampled"],
    bag_decays: tuple[float, ...] | None,
    tmp_path: Path,
) -> None:
    options = replace(TINY.candidate.options, history=replace(TINY.candidate.options.history, bag_decays=bag_decays))
    settings = replace(TINY.candidate, options=options, softmax=softmax, exclude_watched=softmax == "full")
    stage = candidate_stage(split, settings)
    before = share_of_own_group(stage.network, split)
    run(stage, tmp_path / "checkpoint.safetensors", epochs=TINY.candidate.epochs)
    assert before < 0.7
    assert share_of_own_group(stage.network, split) > 0.95
    popularity = figures(popularity_ranks(watch_counts(split), split.test), split.test.users)
    ours = figures(candidate_ranks(stage.network, split.test), split.test.users)
    assert ours["mrr"] > 1.5 * popularity["mrr"]


@pytest.mark.parametrize(
    ("options", "settings"),
    [
        ({"tied_tables": True}, {}),
        ({"tied_tables": True}, {"softmax": "sampled"}),
        ({}, {"softmax": "sampled", "negatives": "mixed"}),
        ({}, {"softmax": "sampled", "log_q": False}),
        ({"example_age": True}, {}),
        ({}, {"examples_per_user": 5}),
        ({"attribute_dim": 4}, {"attribute_columns": ("group", "other")}),
        ({"attribute_dim": 4, "example_age": True}, {"attribute_columns": ("group", "other"), "softmax": "sampled"}),
        ({}, {"n_hidden_layers": 0}),
    ],
)
def test_every_option_learns_the_groups(
    split: LogSplit, options: dict[str, Any], settings: dict[str, Any], tmp_path: Path
) -> None:
    changed = replace(TINY.candidate, options=replace(TINY.candidate.options, **options), **settings)
    stage = candidate_stage(split, changed, SIDES if changed.attribute_columns else ())
    run(stage, tmp_path / "checkpoint.safetensors", epochs=TINY.candidate.epochs)
    assert share_of_own_group(stage.network, split) > 0.95


def test_training_computes_what_serving_computes(split: LogSplit) -> None:
    """The loss of one step over all examples, against the networks' packed form, example by example."""
    settings = replace(
        TINY.candidate,
        dropout=0.0,
        feature_dropout=0.0,
        held_back_share=0.0,
        exclude_watched=False,
        chunks_per_batch=999,
    )
    stage = candidate_stage(split, settings, SIDES)
    for name, weights in stage.network.named_parameters():
        if "code_" in name:  # what begins as zeros or ones would show no mistake
            torch.nn.init.normal_(weights, std=0.3)
    [(loss, example_count)] = stage.losses(0)
    training = split.training
    users = np.repeat(np.arange(len(training)), training.lengths)
    positions = np.arange(len(users)) - training.offsets[users]
    with_history = positions > 0
    watched = visible_before(training, users[with_history], positions[with_history])
    assert len(watched) == example_count
    logits = stage.network.logits(stage.network.user_vectors(stage.network.pack(watched)))
    expected = cross_entropy(logits, torch.from_numpy(training.rows[with_history]).long())
    torch.testing.assert_close(loss, expected)


def test_examples_of_a_user_are_sampled_anew_in_each_epoch(split: LogSplit) -> None:
    settings = replace(TINY.candidate, examples_per_user=3, held_back_share=0.0, dropout=0.0, feature_dropout=0.0)
    stage = candidate_stage(split, settings)
    assert [sum(count for _, count in stage.losses(epoch)) for epoch in range(2)] == [3 * len(split.training)] * 2
    first, again, other = (next(stage.losses(epoch))[0].item() for epoch in (0, 0, 1))
    assert first == again != other


@pytest.mark.parametrize("matching", [False, True])
def test_ranking_prefers_the_users_group(
    split: LogSplit, trained: DeepCandidateGenerationModel, matching: bool, tmp_path: Path
) -> None:
    # All unseen items are candidates: those of the other group have to be ranked last.
    # Without matching, that a user and an item are of one group has to be learned by a tower from random numbers.
    epochs = 3 if matching else 30
    settings = replace(TINY.ranking, matching=matching, candidate_count=29, epochs=epochs, hidden_dim=16)
    stage = ranking_stage(split, trained, settings)
    run(stage, tmp_path / "checkpoint.safetensors", epochs=settings.epochs)
    ranks = chain_ranks(trained, stage.network, split.test, candidate_count=29)
    assert np.mean(ranks < 9) > 0.9


def test_matching_begins_with_the_order_of_the_candidates(
    split: LogSplit, trained: DeepCandidateGenerationModel
) -> None:
    network = build_ranking_network(trained, TINY.ranking, None, seed=5)
    by_chain = chain_ranks(trained, network, split.test, candidate_count=29)
    np.testing.assert_array_equal(by_chain, candidate_ranks(trained, split.test))


def test_matching_needs_the_candidate_networks_width(trained: DeepCandidateGenerationModel) -> None:
    with pytest.raises(ValueError, match="embedding_dim is 8: with matching it has to be the candidate network's 16"):
        build_ranking_network(trained, replace(TINY.ranking, embedding_dim=8), None, seed=5)


class KilledError(Exception):
    pass


class InterruptedStage:
    """Stops as a killed process would, in the middle of an epoch."""

    def __init__(self, stage: CandidateStage | RankingStage, *, epoch: int) -> None:
        self._stage = stage
        self._epoch = epoch

    def __getattr__(self, name: str) -> object:
        return getattr(self._stage, name)

    def losses(self, epoch: int) -> object:
        for number, step in enumerate(self._stage.losses(epoch)):
            if epoch == self._epoch and number == 2:
                raise KilledError
            yield step


def weights(stage: CandidateStage | RankingStage) -> dict[str, Tensor]:
    return stage.network.state_dict()


@pytest.mark.parametrize("softmax", ["full", "sampled"])
def test_resuming_gives_what_the_uninterrupted_run_gives(
    split: LogSplit, softmax: Literal["full", "sampled"], tmp_path: Path
) -> None:
    settings = replace(TINY.candidate, softmax=softmax)
    path = tmp_path / "checkpoint.safetensors"
    uninterrupted = candidate_stage(split, settings)
    log = run(uninterrupted, tmp_path / "other.safetensors", epochs=4)
    with pytest.raises(KilledError):
        run(InterruptedStage(candidate_stage(split, settings), epoch=2), path, epochs=4)  # type: ignore[arg-type]
    resumed = candidate_stage(split, settings)
    assert run(resumed, path, epochs=4, resume=True) == log
    torch.testing.assert_close(weights(resumed), weights(uninterrupted), rtol=0, atol=0)


def test_the_ranking_network_resumes_likewise(
    split: LogSplit, trained: DeepCandidateGenerationModel, tmp_path: Path
) -> None:
    path = tmp_path / "checkpoint.safetensors"
    first, second, third = (ranking_stage(split, trained, TINY.ranking) for _ in range(3))
    run(first, tmp_path / "other.safetensors", epochs=3)
    with pytest.raises(KilledError):
        run(InterruptedStage(second, epoch=1), path, epochs=3)  # type: ignore[arg-type]
    run(third, path, epochs=3, resume=True)
    torch.testing.assert_close(weights(third), weights(first), rtol=0, atol=0)


def test_a_finished_run_is_not_trained_again(split: LogSplit, tmp_path: Path) -> None:
    path = tmp_path / "checkpoint.safetensors"
    first = candidate_stage(split)
    run(first, path, epochs=2)
    written = path.read_bytes()
    second = candidate_stage(split)
    run(second, path, epochs=2, resume=True)
    assert path.read_bytes() == written
    torch.testing.assert_close(weights(second), weights(first), rtol=0, atol=0)


def test_a_checkpoint_of_another_run_is_refused(split: LogSplit, tmp_path: Path) -> None:
    path = tmp_path / "checkpoint.safetensors"
    run(candidate_stage(split), path, epochs=1)
    with pytest.raises(CheckpointError, match="of other settings or other data"):
        run(candidate_stage(split), path, epochs=1, resume=True, identity="another")
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(CheckpointError, match="is not a checkpoint"):
        run(candidate_stage(split), path, epochs=1, resume=True)


def test_the_best_epoch_is_kept(split: LogSplit, tmp_path: Path) -> None:
    stage = candidate_stage(split)
    log = run(stage, tmp_path / "checkpoint.safetensors", epochs=3)
    scores = [[epoch[name] for name in ("hr_at_10", "hr_at_200", "ndcg_at_10")] for epoch in log.epochs]
    assert log.best_score == max(scores)
    assert log.best_epoch == scores.index(max(scores)) + 1


def test_the_step_size_warms_up_and_decays() -> None:
    factors = [learning_rate_factor(step, 100) for step in range(100)]
    assert factors[0] < factors[7] < factors[14]
    assert max(factors) == pytest.approx(1)
    assert factors[20:] == sorted(factors[20:], reverse=True)
    assert 0 < factors[-1] < 0.01


def test_examples_weigh_what_the_log_says(split: LogSplit) -> None:
    # A candidate network that does not see the weights itself.
    history = replace(TINY.candidate.options.history, watch_features=None, signed_bags=0)
    options = replace(TINY.candidate.options, history=history)
    blind = candidate_stage(split, replace(TINY.candidate, options=options)).network
    by_log = replace(TINY.ranking, positive_weight=1.0, weighted=True)
    training = split.training
    tenfold = WatchHistories(training.rows, training.offsets, 10 * training.weights, training.timestamps)
    by_setting = replace(TINY.ranking, positive_weight=10.0, weighted=False)
    torch.manual_seed(0)
    first, _ = next(ranking_stage(replace(split, training=tenfold), blind, by_log).losses(0))
    torch.manual_seed(0)
    second, _ = next(ranking_stage(split, blind, by_setting).losses(0))
    torch.testing.assert_close(first, second)


def test_a_user_counts_no_more_than_the_limit(split: LogSplit, trained: DeepCandidateGenerationModel) -> None:
    settings: RankingSettings = replace(TINY.ranking, examples_per_user=3)
    stage = ranking_stage(split, trained, settings)
    assert sum(count for _, count in stage.losses(0)) == 3 * len(split.training)


def test_bfloat16_is_chosen_only_where_it_is_fast() -> None:
    assert Precision.choose("bfloat16", CPU).dtype == torch.bfloat16
    native = torch.cpu.get_capabilities().get("avx512_bf16") or torch.cpu.get_capabilities().get("amx_bf16")
    assert Precision.choose("auto", CPU).dtype == (torch.bfloat16 if native else torch.float32)
