import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.sparse import csr_matrix

from winnow.evaluation.best_unseen import best_of_dense, best_of_sparse, most_watched_first
from winnow.history import RaggedRows


def plain(scores: list[float], seen: list[int], count: int, preferred: list[int]) -> list[int]:
    """Sort all items: unseen ones first, the largest score first, equal ones in the preferred order."""
    order = sorted(
        range(len(scores)), key=lambda row: (row in seen, row not in seen and -scores[row], preferred.index(row))
    )
    return order[:count]


@settings(deadline=None)
@given(data=st.data())
def test_lists_are_what_a_plain_sort_gives(data: st.DataObject) -> None:
    item_count = data.draw(st.integers(1, 12))
    user_count = data.draw(st.integers(1, 4))
    count = data.draw(st.integers(1, 15))
    preferred = data.draw(st.permutations(range(item_count)))
    rows = st.lists(st.integers(0, item_count - 1), max_size=item_count)
    seen = [data.draw(rows) for _ in range(user_count)]
    # Few different scores, so that there are ties, and many zeros.
    score = st.sampled_from([0.0, 0.0, 0.5, 1.0])
    scores = np.array([[data.draw(score) for _ in range(item_count)] for _ in range(user_count)], dtype=np.float32)
    expected = [plain(of_user, ids, count, list(preferred)) for of_user, ids in zip(scores.tolist(), seen, strict=True)]
    histories, order = RaggedRows.from_lists(seen), np.array(preferred)
    assert best_of_sparse(csr_matrix(scores), histories, count, order).tolist() == expected
    assert best_of_dense(scores, histories, count, order).tolist() == expected


def test_a_tie_does_not_tell_of_held_out_watches() -> None:
    """Rows are ordered by all watches of the log, the held-out ones too: equal items are in reverse row order."""
    training = RaggedRows.from_lists([[2, 0], [2, 1], [3]])
    assert most_watched_first(training, 5).tolist() == [2, 3, 1, 0, 4]
