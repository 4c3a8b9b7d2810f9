import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from gateway.answers import CandidateSource, Move, MoveReason
from gateway.ranking import NOT_IN_TIME, Ranked
from gateway.selection import best, enough_for_caps, select
from gateway.selection_rules import SelectionRules
from gateway.served_catalogue import ServedCatalogue
from gateway.sources.gathered import Gathered
from tests.unit.gateway.stages import rows

# Few different numbers, so that many are equal.
scores = arrays(np.float32, st.integers(0, 40), elements=st.sampled_from([0.0, 0.25, 0.5, 1.0]))


@given(scores, st.integers(1, 50))
def test_as_a_stable_sort_by_descending_score(given_scores: np.ndarray, count: int) -> None:
    by_python = sorted(range(len(given_scores)), key=lambda at: -given_scores[at])[:count]
    assert best(given_scores, count).tolist() == by_python


@pytest.mark.parametrize("count", [1, 3, 10])
def test_of_different_scores(count: int) -> None:
    assert best(np.array([0.1, 0.3, 0.2], dtype=np.float32), count).tolist() == [1, 2, 0][:count]


def gathered(*candidates: int) -> Gathered:
    return Gathered(
        rows=rows(*candidates), scores=-np.array(candidates, dtype=np.float32), source=CandidateSource.NETWORK
    )


def ranked(*scores: float) -> Ranked:
    return Ranked(scores=np.array(scores, dtype=np.float32))


def test_without_rules_sorted_and_cut(catalogue: ServedCatalogue) -> None:
    selected = select(gathered(3, 5, 7), ranked(0.1, 0.3, 0.2), 2, None, catalogue)
    assert selected.rows.tolist() == [5, 7]
    assert selected.moves == {}
    selected = select(gathered(3, 5, 7), NOT_IN_TIME, 2, None, catalogue)
    assert selected.rows.tolist() == [3, 5]
    assert selected.scores.tolist() == [-3, -5]


def test_caps_count_the_attributes_of_the_release(catalogue: ServedCatalogue) -> None:
    # Years are 1990 + row % 30.
    rules = SelectionRules(caps=[("year", 1)])
    selected = select(gathered(0, 30, 60, 1, 31), ranked(0.5, 0.4, 0.3, 0.2, 0.1), 3, rules, catalogue)
    assert selected.rows.tolist() == [0, 1]
    assert selected.scores.tolist() == pytest.approx([0.5, 0.2])
    assert selected.moves == {1: Move(reasons=(MoveReason.OTHERS_CAPPED,), ranked_position=4)}


def test_enough_candidates_are_ranked_to_fill_a_capped_answer(catalogue: ServedCatalogue) -> None:
    rules = SelectionRules(caps=[("year", 1)])
    assert enough_for_caps(rows(0, 30, 60, 1, 31, 2, 3), 3, rules, catalogue) == 6
    assert enough_for_caps(rows(0, 30, 60, 1, 31), 3, rules, catalogue) == 5
    assert enough_for_caps(rows(0, 30, 60, 1, 31), 3, SelectionRules(diversity=0.5), catalogue) == 3


def test_pinned_rows_have_their_scores_whether_or_not_they_are_candidates(catalogue: ServedCatalogue) -> None:
    # 9 is no candidate, and 5 is one that was not ranked: scores after those of the candidates are theirs.
    rules = SelectionRules(pinned=rows(9, 5, 3), places=[0, 1, 3])
    selected = select(gathered(3, 4, 5), ranked(0.2, 0.4, 0.9, 0.3, 0.2), 4, rules, catalogue)
    assert selected.rows.tolist() == [9, 5, 4, 3]
    assert selected.scores.tolist() == pytest.approx([0.9, 0.3, 0.4, 0.2])
    assert [selected.moves[place].ranked_position for place in (0, 1, 3)] == [None, None, 2]


def test_without_ranking_the_order_is_that_of_the_candidates(catalogue: ServedCatalogue) -> None:
    rules = SelectionRules(caps=[("year", 1)], pinned=rows(9), places=[1], diversity=0.5)
    selected = select(gathered(0, 30, 1), NOT_IN_TIME, 3, rules, catalogue)
    assert selected.rows.tolist() == [0, 9, 1]
    assert selected.scores.tolist() == [0, 0, -1]
    assert select(gathered(), NOT_IN_TIME, 3, rules, catalogue).rows.tolist() == [9]


def test_the_most_diverse_answer_begins_with_the_best_item_and_goes_on_with_the_least_similar(
    catalogue: ServedCatalogue,
) -> None:
    candidates = np.arange(40)
    scores = np.linspace(1, 0, 40, dtype=np.float32)
    rules = SelectionRules(diversity=1.0)
    selected = select(gathered(*candidates.tolist()), ranked(*scores.tolist()), 5, rules, catalogue)
    vectors = catalogue.similarity_vectors.astype(np.float32)
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    similarity = np.maximum(unit @ unit.T, 0)
    chosen = [0]
    for row in selected.rows.tolist()[1:]:
        nearest = similarity[chosen].max(axis=0)
        left = np.setdiff1d(candidates, chosen)
        assert nearest[row] == pytest.approx(nearest[left].min(), abs=1e-6)
        chosen.append(row)
