import numpy as np
import pytest

from winnow.evaluation.impression_figures import order_figures


def test_figures_equal_a_loop_over_all_pairs() -> None:
    rng = np.random.default_rng(1)
    users, clicked = rng.integers(0, 9, 200), rng.random(200) < 0.4
    scores = rng.integers(0, 6, 200).astype(np.float32)  # with ties
    seconds = (rng.exponential(30, 200) * clicked).astype(np.float32)
    lost = total = 0.0
    order: dict[int, list[float]] = {}
    for positive in np.flatnonzero(clicked):
        for negative in np.flatnonzero(~clicked & (users == users[positive])):
            total += float(seconds[positive])
            lost += float(seconds[positive]) * bool(scores[negative] >= scores[positive])
            right = (scores[positive] > scores[negative]) + 0.5 * (scores[positive] == scores[negative])
            order.setdefault(int(users[positive]), []).append(float(right))
    found = order_figures(users, scores, clicked, seconds)
    assert found["weighted_per_user_loss"] == pytest.approx(lost / total)
    assert found["auc_by_user"] == pytest.approx(np.mean([np.mean(pairs) for pairs in order.values()]))
    assert found["user_count"] == len(order)


def test_impressions_of_different_users_are_not_compared() -> None:
    found = order_figures(
        np.array([1, 2]), np.array([0.0, 1.0]), np.array([True, False]), np.array([9.0, 0.0], dtype=np.float32)
    )
    assert found == {"weighted_per_user_loss": 0.0, "auc_by_user": 0.0, "user_count": 0.0}
