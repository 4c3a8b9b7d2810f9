"""What is gathered for one request."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gateway.answers import CandidateSource
from gateway.sources.proposed import Proposed
from gateway.stage_calls import StageFailure
from winnow.history import Rows


@dataclass(slots=True, kw_only=True, eq=False)
class Gathered:
    """Candidates of one request, best first, with the scores that order them."""

    rows: Rows
    scores: NDArray[np.float32]
    source: CandidateSource
    failure: StageFailure | None = None
    """Why the network gave nothing."""
    microseconds: int | None = None
    """How long the candidate stage took to answer; None where it was not asked."""
    compute_microseconds: int | None = None
    """Of these, how long it computed; None where it gave no answer."""
    sources_microseconds: int | None = None
    """How long further sources took after that; None where none was asked."""
    proposed: Sequence[Proposed] = ()
    """What each source has proposed, where there are further ones beside `source`; the rows are the union then."""
