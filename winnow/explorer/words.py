"""What the client's values are called on the pages."""

from winnow.client import (
    AbsenceReason,
    CandidateSource,
    DegradationStep,
    Move,
    MoveReason,
    ReleaseState,
    ScoreType,
)

SCORES = {
    ScoreType.WATCH_PROBABILITY: "probability",
    ScoreType.WATCH_SECONDS: "expected seconds",
    ScoreType.CANDIDATE_LOGIT: "logit",
    ScoreType.POPULARITY: "share of watches",
    ScoreType.UNKNOWN: "score",
}
SOURCES = {
    CandidateSource.NETWORK: "the candidate network",
    CandidateSource.POPULAR: "the most popular items",
    CandidateSource.UNKNOWN: "a source that this version does not know",
}
DEGRADATION = {
    DegradationStep.NONE: "",
    DegradationStep.CANDIDATE_ORDER: "Ranking gave no answer: these are candidates in candidate order.",
    DegradationStep.POPULAR_RANKED: "Candidate generation gave no answer: these are popular items, ranked.",
    DegradationStep.POPULAR: "Neither stage gave an answer: these are popular items by popularity.",
    DegradationStep.WITHOUT_STORED_HISTORY: "The stored history could not be read: only the picked watches count.",
    DegradationStep.UNKNOWN: "The answer falls short in a way that this version does not know.",
}
ABSENCE = {
    AbsenceReason.UNKNOWN: "The release does not know it.",
    AbsenceReason.EXCLUDED: "The request excludes it.",
    AbsenceReason.WATCHED: "It was watched, and watched items are left out.",
    AbsenceReason.DISMISSED: "The user has dismissed it.",
    AbsenceReason.NOT_ALLOWED: "The request allows other items only.",
    AbsenceReason.FILTERED: "It does not match the filter.",
    AbsenceReason.BELOW_CUT: "It scores no more than the last candidate.",
    AbsenceReason.MISSED: "It scores enough, but the approximate index has missed it.",
    AbsenceReason.RETIRED: "It is retired.",
    AbsenceReason.OTHER: "For a reason that this version does not know.",
}
MOVES = {
    MoveReason.PINNED: "pinned",
    MoveReason.OTHERS_PINNED: "others are pinned",
    MoveReason.OTHERS_CAPPED: "others are capped",
    MoveReason.DIVERSITY: "diversity",
    MoveReason.UNKNOWN: "another reason",
}
STATES = {
    ReleaseState.CURRENT: "in use",
    ReleaseState.WAITING: "waiting for the stages",
    ReleaseState.RETIRING: "retiring",
    ReleaseState.LOADING: "loading",
    ReleaseState.REFUSED: "refused",
    ReleaseState.EXPERIMENT: "in an experiment",
    ReleaseState.UNKNOWN: "unknown",
}
FIGURES = {
    "hr_at_10": "HR@10",
    "hr_at_50": "HR@50",
    "hr_at_100": "HR@100",
    "hr_at_200": "HR@200",
    "ndcg_at_10": "NDCG@10",
    "mrr": "MRR",
}
SUBJECTS = {
    "popularity": "Popularity",
    "succession-knn": "Succession kNN",
    "ease": "EASE",
    "candidate": "Candidates only",
    "chain": "Both stages",
}


def why_moved(move: Move) -> str:
    """Say what selection did to an item after ranking."""
    reasons = ", ".join(MOVES[reason] for reason in move.reasons)
    return reasons if move.ranked_position is None else f"ranked {move.ranked_position}: {reasons}"
