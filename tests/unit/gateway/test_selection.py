import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from gateway.selection import best

# Few different numbers, so that many are equal.
scores = arrays(np.float32, st.integers(0, 40), elements=st.sampled_from([0.0, 0.25, 0.5, 1.0]))


@given(scores, st.integers(1, 50))
def test_as_a_stable_sort_by_descending_score(given_scores: np.ndarray, count: int) -> None:
    by_python = sorted(range(len(given_scores)), key=lambda at: -given_scores[at])[:count]
    assert best(given_scores, count).tolist() == by_python


@pytest.mark.parametrize("count", [1, 3, 10])
def test_of_different_scores(count: int) -> None:
    assert best(np.array([0.1, 0.3, 0.2], dtype=np.float32), count).tolist() == [1, 2, 0][:count]
