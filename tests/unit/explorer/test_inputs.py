"""The address of a page is all its state: it is read, checked and written again."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.datastructures import QueryParams

from winnow.explorer.inputs import LOG, MAX_WATCHES, Inputs, read_inputs

TEXT = st.text(st.characters(codec="utf-8"), min_size=1, max_size=20).filter(lambda text: text == text.strip())


def problems(query: str) -> list[tuple[str, str]]:
    return [(problem.field, problem.text) for problem in read_inputs(QueryParams(query), 1)[1]]


@given(
    st.builds(
        Inputs,
        watches=st.lists(TEXT, max_size=5).map(tuple),
        user=TEXT,
        source=st.sampled_from(["log", "store"]),
        filter=TEXT,
        count=st.integers(1, 100).map(str),
        diversity=st.sampled_from(["", "0", "0.25", "1"]),
        caps=st.sampled_from(["", "genres=2", "genres=2, year=30"]),
        target=st.integers(0, 1),
    )
)
def test_a_query_that_is_written_is_read_again(inputs: Inputs) -> None:
    assert read_inputs(QueryParams(inputs.query()), 2) == (inputs, [])


def test_caps_diversity_and_count_are_numbers() -> None:
    inputs, found = read_inputs(QueryParams("caps=genres%3D2,+year%3D30&diversity=0.5&count=7"), 1)
    assert found == []
    assert (inputs.cap_values, inputs.diversity_value, inputs.item_count) == ({"genres": 2, "year": 30}, 0.5, 7)


def test_nothing_given_is_what_the_gateway_takes_by_default() -> None:
    inputs, _ = read_inputs(QueryParams(""), 1)
    assert (inputs.cap_values, inputs.diversity_value, inputs.item_count) == (None, None, 20)


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("count=0", "count"),
        ("count=101", "count"),
        ("count=٣", "count"),
        ("count=" + "9" * 5000, "count"),
        ("diversity=nan", "diversity"),
        ("diversity=1.01", "diversity"),
        ("caps=genres", "caps"),
        ("caps=genres%3D0", "caps"),
        ("caps=%3D2", "caps"),
        ("caps=" + ",".join(f"a{number}%3D1" for number in range(11)), "caps"),
        ("filter=" + "x" * 2001, "filter"),
        ("user=" + "x" * 513, "user"),
        ("watch=", "history"),
        ("watch=" + "x" * 513, "history"),
        ("&".join(["watch=x"] * (MAX_WATCHES + 1)), "history"),
    ],
)
def test_what_makes_no_sense_is_said_at_its_field(query: str, field: str) -> None:
    assert [found for found, _ in problems(query)] == [field]


def test_a_target_that_does_not_exist_is_the_first() -> None:
    assert read_inputs(QueryParams("target=7"), 2)[0].target == 0
    assert read_inputs(QueryParams("target=1"), 2)[0].target == 1


def test_picked_watches_are_added_and_taken_out() -> None:
    inputs = Inputs(user="42", source=LOG).with_watch("a").with_watch("b").with_watch("a")
    assert inputs.without_watch(0).watches == ("b", "a")
    assert inputs.without_user() == Inputs(watches=("a", "b", "a"))
