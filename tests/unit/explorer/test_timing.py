"""The bar of the milliseconds: its parts lie side by side and fill it."""

import itertools

from hypothesis import given
from hypothesis import strategies as st

from winnow.client import Timing
from winnow.explorer.timing import BAR_UNITS, parts_of

MILLISECONDS = st.none() | st.floats(0, 1e4)


@given(
    st.builds(
        Timing,
        total_milliseconds=st.floats(0, 1e5),
        users_milliseconds=MILLISECONDS,
        wait_milliseconds=MILLISECONDS,
        retrieve_milliseconds=MILLISECONDS,
        retrieve_compute_milliseconds=st.none(),
        rank_milliseconds=MILLISECONDS,
        rank_compute_milliseconds=st.none(),
        select_milliseconds=MILLISECONDS,
        sources_milliseconds=MILLISECONDS,
        explain_milliseconds=MILLISECONDS,
    )
)
def test_parts_lie_side_by_side(timing: Timing) -> None:
    parts = parts_of(timing)
    for part, following in itertools.pairwise(parts):
        assert abs(part.start + part.width - following.start) < 1e-6 * BAR_UNITS
    assert parts[-1].start + parts[-1].width <= BAR_UNITS * (1 + 1e-9)
    assert all(part.width >= 0 for part in parts)


def test_computing_is_a_part_of_the_stage() -> None:
    timing = Timing(
        total_milliseconds=10, users_milliseconds=None, wait_milliseconds=1, retrieve_milliseconds=4,
        retrieve_compute_milliseconds=3, rank_milliseconds=None, rank_compute_milliseconds=None,
        select_milliseconds=None, sources_milliseconds=None, explain_milliseconds=None,
    )  # fmt: skip
    assert {part.key: part.milliseconds for part in parts_of(timing)} == {
        "wait": 1,
        "retrieve": 1,
        "retrieve-compute": 3,
        "rest": 5,
    }
