import pytest

from gateway import ladder
from gateway.answers import CandidateSource, DegradationStep, ScoreType


@pytest.mark.parametrize(
    ("source", "ranked", "failed", "step"),
    [
        (CandidateSource.NETWORK, True, False, DegradationStep.NONE),
        (CandidateSource.NETWORK, False, True, DegradationStep.CANDIDATE_ORDER),
        (CandidateSource.POPULAR, True, True, DegradationStep.POPULAR_RANKED),
        (CandidateSource.POPULAR, False, True, DegradationStep.POPULAR),
        # A history without a known item: popular items are what the chain is meant to answer.
        (CandidateSource.POPULAR, True, False, DegradationStep.NONE),
    ],
)
def test_each_row_of_the_table(source: CandidateSource, ranked: bool, failed: bool, step: DegradationStep) -> None:
    assert ladder.degradation(source, ranked=ranked, failed=failed) is step


@pytest.mark.parametrize(
    ("source", "ranked", "step"),
    [
        (CandidateSource.NETWORK, True, DegradationStep.WITHOUT_STORED_HISTORY),
        (CandidateSource.NETWORK, False, DegradationStep.CANDIDATE_ORDER),
        (CandidateSource.POPULAR, True, DegradationStep.POPULAR_RANKED),
        (CandidateSource.POPULAR, False, DegradationStep.POPULAR),
    ],
)
def test_a_missing_history_shows_where_both_stages_have_answered(
    source: CandidateSource, ranked: bool, step: DegradationStep
) -> None:
    assert ladder.degradation(source, ranked=ranked, failed=True, history_missing=True) is step


def test_scores_of_unranked_candidates() -> None:
    assert ladder.unranked_score_type(CandidateSource.NETWORK) is ScoreType.CANDIDATE_LOGIT
    assert ladder.unranked_score_type(CandidateSource.POPULAR) is ScoreType.POPULARITY
