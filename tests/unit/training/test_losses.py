import pytest
import torch
from torch.nn import functional as F

from winnow.training.losses import (
    LOGISTIC_WEIGHT,
    LogitMemory,
    candidate_list_loss,
    click_loss,
    full_softmax_loss,
    sampled_softmax_loss,
    watch_time_loss,
)
from winnow.training.negatives import NegativeSampler

EXAMPLE_COUNT, ITEM_COUNT, DIM = 6, 30, 5


@pytest.fixture
def tensors() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    user = torch.randn(EXAMPLE_COUNT, DIM, generator=generator, requires_grad=True)
    items = torch.randn(ITEM_COUNT, DIM, generator=generator, requires_grad=True)
    return user, items, torch.randint(ITEM_COUNT, (EXAMPLE_COUNT,), generator=generator)


@pytest.mark.parametrize("masked", [False, True])
def test_full_softmax_is_cross_entropy(tensors: tuple[torch.Tensor, torch.Tensor, torch.Tensor], masked: bool) -> None:
    user, items, targets = tensors
    excluded = torch.rand(EXAMPLE_COUNT, ITEM_COUNT, generator=torch.Generator().manual_seed(2)) < 0.4
    # One target is among its own excluded items: it stays in.
    excluded[0, targets[0]] = True
    logits = user @ items.T
    if masked:
        keep = ~excluded
        keep[torch.arange(EXAMPLE_COUNT), targets] = True
        logits = logits.masked_fill(~keep, -torch.inf)
    expected = F.cross_entropy(logits, targets)
    loss = full_softmax_loss(user, items, targets, excluded.to_sparse() if masked else None, LogitMemory())
    torch.testing.assert_close(loss, expected)
    for ours, theirs in zip(
        torch.autograd.grad(3 * loss, [user, items]), torch.autograd.grad(3 * expected, [user, items]), strict=True
    ):
        torch.testing.assert_close(ours, theirs)


def test_memory_of_an_earlier_step_changes_nothing(tensors: tuple[torch.Tensor, torch.Tensor, torch.Tensor]) -> None:
    user, items, targets = tensors
    memory = LogitMemory()
    excluded = torch.ones(EXAMPLE_COUNT, ITEM_COUNT, dtype=torch.bool).to_sparse()
    first = full_softmax_loss(user, items, targets, None, memory)
    kept = memory(EXAMPLE_COUNT, ITEM_COUNT, user).data_ptr()
    assert full_softmax_loss(user, items, targets, excluded, memory) == 0
    assert full_softmax_loss(user[:2], items, targets[:2], None, memory) == full_softmax_loss(
        user[:2], items, targets[:2], None, LogitMemory()
    )
    again = full_softmax_loss(user, items, targets, None, memory)
    assert memory(EXAMPLE_COUNT, ITEM_COUNT, user).data_ptr() == kept
    for ours, theirs in zip(
        torch.autograd.grad(again, [user, items]), torch.autograd.grad(first, [user, items]), strict=True
    ):
        assert torch.equal(ours, theirs)
    larger = full_softmax_loss(user.repeat(2, 1).bfloat16(), items.bfloat16(), targets.repeat(2), None, memory)
    torch.testing.assert_close(larger.float(), first, rtol=0.02, atol=0.02)


def test_sampled_softmax_over_all_items_is_the_full_softmax(
    tensors: tuple[torch.Tensor, torch.Tensor, torch.Tensor],
) -> None:
    user, items, targets = tensors
    everything = torch.arange(ITEM_COUNT)
    sampled = sampled_softmax_loss(user, items[targets], targets, items, everything, torch.zeros(ITEM_COUNT))
    full = full_softmax_loss(user, items, targets, None, LogitMemory())
    torch.testing.assert_close(sampled, full)
    for ours, theirs in zip(
        torch.autograd.grad(sampled, [user, items]), torch.autograd.grad(full, [user, items]), strict=True
    ):
        torch.testing.assert_close(ours, theirs)


def test_the_correction_makes_the_sample_stand_for_the_catalogue(
    tensors: tuple[torch.Tensor, torch.Tensor, torch.Tensor],
) -> None:
    user, items, targets = tensors
    counts = torch.arange(1, ITEM_COUNT + 1).flip(0).square()
    sampler = NegativeSampler(counts, sample_count=20_000, generator=torch.Generator().manual_seed(3))
    negatives, log_expected_counts = sampler.draw(torch.empty(0))
    sampled = sampled_softmax_loss(user, items[targets], targets, items[negatives], negatives, log_expected_counts)
    torch.testing.assert_close(
        sampled, full_softmax_loss(user, items, targets, None, LogitMemory()), rtol=0.02, atol=0.02
    )
    uncorrected = sampled_softmax_loss(
        user, items[targets], targets, items[negatives], negatives, torch.zeros_like(log_expected_counts)
    )
    assert (uncorrected - sampled).abs() > 1


def test_the_sampled_negatives_count_for_the_whole_list() -> None:
    """Every negative once with weight 1, or each distinct one once with its number of copies: the same loss."""
    logits = torch.tensor([[0.3, 1.0, -0.5], [1.2, 0.1, 0.4]])
    positives, counts = torch.tensor([2.0, 0.0]), torch.tensor([[3.0, 1.0], [2.0, 2.0]])
    copied = torch.stack([logits[0, [0, 1, 1, 1, 2]], logits[1, [0, 1, 1, 2, 2]]])
    loss = candidate_list_loss(logits, positives, counts)
    torch.testing.assert_close(loss, candidate_list_loss(copied, positives, torch.ones(2, 4)))
    # The second target was not retrieved: it is no positive, and its list has negatives alone.
    softmax = -2 * torch.log_softmax(copied[0], dim=0)[0]
    logistic = 2 * F.softplus(-logits[0, 0]) + F.softplus(copied[:, 1:]).sum()
    torch.testing.assert_close(loss, (LOGISTIC_WEIGHT * logistic + softmax) / 2)


def test_a_target_among_the_sampled_negatives_is_not_its_own_rival() -> None:
    logits = torch.tensor([[0.3, 0.3, -0.5]])
    without = candidate_list_loss(logits[:, [0, 2]], torch.ones(1), torch.ones(1, 1))
    torch.testing.assert_close(candidate_list_loss(logits, torch.ones(1), torch.tensor([[0.0, 1.0]])), without)


def fitted_odds(calibrated: bool, clicked: torch.Tensor, seconds: torch.Tensor) -> float:
    logit = torch.zeros(1, dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.LBFGS([logit], max_iter=100, line_search_fn="strong_wolfe")

    def step() -> torch.Tensor:
        optimizer.zero_grad()
        loss = watch_time_loss(logit.expand(len(clicked)), clicked, seconds, calibrated=calibrated)
        loss.backward()  # type: ignore[no-untyped-call]
        return loss

    optimizer.step(step)  # type: ignore[no-untyped-call]
    return float(logit.detach().exp())


def test_the_odds_of_watch_time_are_the_mean_watch_time_where_they_are_calibrated() -> None:
    generator = torch.Generator().manual_seed(1)
    clicked = torch.rand(1000, generator=generator) < 0.44
    seconds = (torch.rand(1000, generator=generator) * 90).double()
    total = float(seconds[clicked].sum())
    assert fitted_odds(True, clicked, seconds) == pytest.approx(total / 1000, rel=1e-4)
    # The paper's form: as if the impressions that were clicked were not there.
    assert fitted_odds(False, clicked, seconds) == pytest.approx(total / int((~clicked).sum()), rel=1e-4)


def test_the_loss_of_clicks_is_the_watch_time_loss_where_every_watch_lasts_a_second() -> None:
    generator = torch.Generator().manual_seed(1)
    logits, clicked = torch.randn(50, generator=generator), torch.rand(50, generator=generator) < 0.5
    weighted = watch_time_loss(logits, clicked, torch.ones(50), calibrated=False)
    torch.testing.assert_close(weighted, click_loss(logits, clicked))
