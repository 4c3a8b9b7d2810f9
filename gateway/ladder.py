"""What is answered when a step gives nothing."""

from gateway.answers import CandidateSource, DegradationStep, ScoreType

# Candidates from | ranked | the answer
_LADDER = {
    (CandidateSource.NETWORK, True): DegradationStep.NONE,  # the full chain
    (CandidateSource.NETWORK, False): DegradationStep.CANDIDATE_ORDER,  # candidates by logit
    (CandidateSource.POPULAR, True): DegradationStep.POPULAR_RANKED,  # popular items by ranking score
    (CandidateSource.POPULAR, False): DegradationStep.POPULAR,  # popular items by popularity
}

_UNRANKED_SCORE_TYPES = {
    CandidateSource.NETWORK: ScoreType.CANDIDATE_LOGIT,
    CandidateSource.POPULAR: ScoreType.POPULARITY,
}


def degradation(
    source: CandidateSource, *, ranked: bool, failed: bool, history_missing: bool = False
) -> DegradationStep:
    """Return how far an answer falls short. Popular items are the full answer to a history that says nothing.

    `history_missing` says that the stored history could not be read, which is a failure too.
    """
    if not failed:
        return DegradationStep.NONE
    step = _LADDER[source, ranked]
    # Both stages have answered, but for the watches of the request alone.
    return DegradationStep.WITHOUT_STORED_HISTORY if history_missing and step is DegradationStep.NONE else step


def unranked_score_type(source: CandidateSource) -> ScoreType:
    """Return what the scores are that order candidates before ranking."""
    return _UNRANKED_SCORE_TYPES[source]
