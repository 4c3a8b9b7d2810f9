"""The same seed gives the same network, resumed or not, and the best epoch is kept."""

import contextlib
import resource
from collections.abc import Iterator
from dataclasses import replace
from io import StringIO
from pathlib import Path
from typing import Literal

import pytest
import torch

from tests.unit.training.settings import TINY
from tests.unit.training.trainees import candidate_trainee, context_in, ranking_trainee, weights
from winnow.training.candidate_trainee import CandidateTrainee
from winnow.training.checkpoint import CheckpointError
from winnow.training.loop import learning_rate_factor, train
from winnow.training.presets import CandidateSettings
from winnow.training.watch_ranking_trainee import WatchRankingTrainee


class KilledError(Exception):
    pass


def killed_in(epoch: int, trainee: CandidateTrainee | WatchRankingTrainee, monkeypatch: pytest.MonkeyPatch) -> None:
    """Stop as a killed process would, in the middle of an epoch."""
    losses = trainee.losses

    def interrupted(now: int) -> object:
        for number, step in enumerate(losses(now)):
            if now == epoch and number == 2:
                raise KilledError
            yield step

    monkeypatch.setattr(trainee, "losses", interrupted)


def of_epochs(epochs: int) -> CandidateSettings:
    return replace(TINY.candidate, epochs=epochs)


@pytest.mark.parametrize("softmax", ["full", "sampled"])
def test_resuming_gives_what_the_uninterrupted_run_gives(
    softmax: Literal["full", "sampled"], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = replace(TINY.candidate, softmax=softmax, epochs=4)
    uninterrupted, killed, resumed = (candidate_trainee(settings) for _ in range(3))
    log = train(uninterrupted, context_in(tmp_path / "other"))
    killed_in(2, killed, monkeypatch)
    with pytest.raises(KilledError):
        train(killed, context_in(tmp_path))
    assert train(resumed, context_in(tmp_path, resume=True)) == log
    torch.testing.assert_close(weights(resumed), weights(uninterrupted), rtol=0, atol=0)


def test_the_ranking_network_resumes_likewise(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    candidates = candidate_trainee()
    train(candidates, context_in(tmp_path))
    first, second, third = (ranking_trainee(candidates.network, TINY.ranking) for _ in range(3))
    train(first, context_in(tmp_path / "other"))
    killed_in(1, second, monkeypatch)
    with pytest.raises(KilledError):
        train(second, context_in(tmp_path))
    train(third, context_in(tmp_path, resume=True))
    torch.testing.assert_close(weights(third), weights(first), rtol=0, atol=0)


def test_a_finished_run_is_not_trained_again(tmp_path: Path) -> None:
    first, second = candidate_trainee(of_epochs(2)), candidate_trainee(of_epochs(2))
    train(first, context_in(tmp_path))
    written = (tmp_path / "candidate.safetensors").read_bytes()
    train(second, context_in(tmp_path, resume=True))
    assert (tmp_path / "candidate.safetensors").read_bytes() == written
    torch.testing.assert_close(weights(second), weights(first), rtol=0, atol=0)


def test_a_checkpoint_of_another_run_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "candidate.safetensors"
    train(candidate_trainee(of_epochs(1)), context_in(tmp_path))
    with pytest.raises(CheckpointError, match="was made with other settings or data"):
        train(candidate_trainee(of_epochs(1)), context_in(tmp_path, resume=True, data="another"))
    with pytest.raises(CheckpointError, match="was made with other settings or data"):
        train(candidate_trainee(of_epochs(2)), context_in(tmp_path, resume=True))
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(CheckpointError, match="is not a checkpoint"):
        train(candidate_trainee(of_epochs(1)), context_in(tmp_path, resume=True))


@contextlib.contextmanager
def full_disk(free_bytes: int) -> Iterator[None]:
    """Make a disk look full: no file may become larger. Ends before pytest writes, since that may be to a file too."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (free_bytes, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_checkpoint_that_cannot_be_written_is_an_error_of_the_system(tmp_path: Path) -> None:
    message = r"candidate\.safetensors cannot be written: .*File too large"
    with full_disk(free_bytes=10_000), pytest.raises(OSError, match=message):
        train(candidate_trainee(of_epochs(1)), context_in(tmp_path))
    assert list(tmp_path.iterdir()) == []


def test_the_best_epoch_is_kept(tmp_path: Path) -> None:
    log = train(candidate_trainee(of_epochs(3)), context_in(tmp_path))
    scores = [[epoch[name] for name in ("hr_at_10", "hr_at_200", "ndcg_at_10")] for epoch in log.epochs]
    assert log.best_score == max(scores)
    assert log.best_epoch == scores.index(max(scores)) + 1


def test_it_stops_some_epochs_after_the_best_one_also_when_it_is_resumed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    figures = iter([0.1, 0.3, 0.2, 0.2, 0.4])
    trainee = candidate_trainee(replace(TINY.candidate, epochs=5, patience=2))
    monkeypatch.setattr(trainee, "validate", lambda: {"hr_at_10": next(figures)})
    log = train(trainee, context_in(tmp_path))
    assert [epoch["hr_at_10"] for epoch in log.epochs] == [0.1, 0.3, 0.2, 0.2]
    assert log.best_epoch == 2
    resumed = candidate_trainee(trainee.settings)
    assert train(resumed, context_in(tmp_path, resume=True)) == log
    torch.testing.assert_close(weights(resumed), weights(trainee), rtol=0, atol=0)


def test_the_learning_rate_warms_up_and_decays() -> None:
    factors = [learning_rate_factor(step, 100) for step in range(100)]
    assert factors[0] < factors[7] < factors[14]
    assert max(factors) == pytest.approx(1)
    assert factors[20:] == sorted(factors[20:], reverse=True)
    assert 0 < factors[-1] < 0.01


def test_the_network_before_training_counts_where_it_has_an_order_to_keep(tmp_path: Path) -> None:
    candidates = candidate_trainee()
    train(candidates, context_in(tmp_path))
    for matching in (True, False):
        trainee = ranking_trainee(candidates.network, replace(TINY.ranking, matching=matching, epochs=1))
        context = context_in(tmp_path / str(matching))
        log = train(trainee, context)
        assert isinstance(context.console.file, StringIO)
        assert ("ranking network, before training: ndcg_at_10" in context.console.file.getvalue()) is matching
        assert log.best_epoch in ((0, 1) if matching else (1,))


def test_an_epoch_that_is_no_better_than_the_untrained_network_is_not_kept(tmp_path: Path) -> None:
    candidates = candidate_trainee()
    train(candidates, context_in(tmp_path))
    trainee = ranking_trainee(candidates.network, replace(TINY.ranking, learning_rate=1e-12))
    before = weights(trainee)["output.weight"].clone()
    log = train(trainee, context_in(tmp_path / "ranking"))
    assert log.best_epoch == 0
    torch.testing.assert_close(weights(trainee)["output.weight"], before, rtol=0, atol=0)
