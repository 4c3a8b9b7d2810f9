"""The file EXPERIMENT: what it may say, and which users it gives to which arm."""

import json
import os
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from winnow.release.experiment import (
    EXPERIMENT_FILE,
    MAX_ARMS,
    MAX_FILE_BYTES,
    USER_GROUP_COUNT,
    Arm,
    Experiment,
    ExperimentError,
    new_experiment,
    read_experiment,
    remove_experiment,
    write_experiment,
)

STARTED_AT = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
A, B = Arm(name="b", release_id="r2", share=0.25), Arm(name="c", release_id="r3", share=0.5)
SHADOW = Arm(name="s", release_id="r4", share=0.1, shadow=True)


def experiment(*arms: Arm, salt: str = "0" * 32) -> Experiment:
    return Experiment(name="trial", salt=salt, started_at=STARTED_AT, current_release_id="r1", arms=arms)


def test_what_is_written_is_read(tmp_path: Path) -> None:
    made = new_experiment("trial", (A, B, SHADOW), "r1", STARTED_AT)
    write_experiment(tmp_path, made)
    assert read_experiment(tmp_path) == made
    assert made.answering_arms == (A, B)
    assert made.shadow == SHADOW
    assert made.release_ids == {"r2", "r3", "r4"}
    assert [path.name for path in tmp_path.iterdir()] == [EXPERIMENT_FILE]
    remove_experiment(tmp_path)
    assert read_experiment(tmp_path) is None
    with pytest.raises(ExperimentError, match="no experiment is running"):
        remove_experiment(tmp_path)


def change(**fields: Any) -> dict[str, Any]:
    return {**experiment(A).model_dump(mode="json"), **fields}


def arm(**fields: Any) -> dict[str, Any]:
    return {**A.model_dump(), **fields}


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("", "the whole: Invalid JSON"),
        ("[]", "the whole: Input should be an object"),
        (change(format_version=2), "format_version: Input should be 1"),
        (change(colour="red"), "colour: Extra inputs are not permitted"),
        (change(name="a/b"), "name: String should match pattern"),
        (change(salt=""), "salt: String should match pattern"),
        (change(started_at="yesterday"), "started_at: Input should be a valid datetime"),
        (change(started_at="2026-01-01T00:00:00"), "started_at: Input should have timezone info"),
        (change(arms=[]), "arms: Tuple should have at least 1 item"),
        (change(arms=[arm(name=f"a{n}", share=0.01) for n in range(MAX_ARMS + 1)]), "arms: Tuple should have at most"),
        (change(arms=[arm(release_id="../elsewhere")]), "arms.0.release_id: String should match pattern"),
        (change(arms=[arm(release_id=".")]), "arms.0.release_id: String should match pattern"),
        (change(arms=[arm(share=0)]), "arms.0.share: Input should be greater than 0"),
        (change(arms=[arm(share=1.01)]), "arms.0.share: Input should be less than or equal to 1"),
        (change(arms=[arm(share="0.5")]), "arms.0.share: Input should be a valid number"),
        (json.dumps(change()).replace("0.25", "NaN"), "arms.0.share: Input should be"),
        (change(arms=[arm(name="current")]), "no arm can be called current"),
        (change(arms=[arm(), arm()]), "2 arms are called b"),
        (change(arms=[arm(share=0.6), arm(name="c", share=0.5)]), "the shares of users add up to 1.1"),
        (change(arms=[arm(shadow=True), arm(name="c", shadow=True)]), "more than one shadow"),
        (" " * (MAX_FILE_BYTES + 1), f"longer than {MAX_FILE_BYTES} bytes"),
    ],
)
def test_a_file_that_says_something_else_is_refused_with_the_reason(
    tmp_path: Path, content: str | dict[str, Any], reason: str
) -> None:
    (tmp_path / EXPERIMENT_FILE).write_text(content if isinstance(content, str) else json.dumps(content))
    with pytest.raises(ExperimentError) as raised:
        read_experiment(tmp_path)
    assert reason in str(raised.value)


def test_what_is_not_a_file_is_refused_and_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / EXPERIMENT_FILE)
    with pytest.raises(ExperimentError, match="cannot be read"):
        read_experiment(tmp_path)


def test_an_experiment_that_cannot_be_is_not_made() -> None:
    with pytest.raises(ExperimentError, match=r"add up to 1\.5"):
        new_experiment("trial", (B, B.model_copy(update={"name": "d", "share": 1.0})), "r1", STARTED_AT)
    tenths = tuple(Arm(name=f"a{n}", release_id="r2", share=share) for n, share in enumerate((0.1, 0.2, 0.7)))
    assert new_experiment("trial", tenths, "r1", STARTED_AT).arms == tenths, "although their sum is above 1 in floats"


def test_a_new_experiment_divides_users_anew() -> None:
    first, second = (new_experiment("trial", (B,), "r1", STARTED_AT) for _ in range(2))
    users = [str(number) for number in range(200)]
    assert [first.assign(user).arm for user in users] != [second.assign(user).arm for user in users]


@given(
    salt=st.text("0123456789abcdef", min_size=32, max_size=32),
    share=st.floats(0.05, 0.45),
    other=st.floats(0.05, 0.45),
    prefix=st.text(max_size=8),
)
@settings(max_examples=10, deadline=None)
def test_shares_are_as_stated_stable_and_independent_of_the_groups(
    salt: str, share: float, other: float, prefix: str
) -> None:
    arms = (Arm(name="b", release_id="r2", share=share), Arm(name="c", release_id="r3", share=other), SHADOW)
    users = [f"{prefix}{number}" for number in range(1000)]
    assigned = [experiment(*arms, salt=salt).assign(user) for user in users]
    assert assigned == [experiment(*arms, salt=salt).assign(user) for user in users]
    counts = Counter(found.arm.name if found.arm else "current" for found in assigned)
    # Five standard deviations at most.
    for name, expected in (("b", share), ("c", other), ("current", 1 - share - other)):
        assert abs(counts[name] / len(users) - expected) < 5 * (expected * (1 - expected) / len(users)) ** 0.5
    in_b = Counter(found.group for found in assigned if found.arm == arms[0])
    assert set(in_b) <= set(range(USER_GROUP_COUNT))
    expected = counts["b"] / USER_GROUP_COUNT
    assert max(in_b.values()) < expected + 6 * expected**0.5 + 3


def test_users_stay_where_they_are_when_an_arm_gets_more_of_the_others() -> None:
    before, after = experiment(A), experiment(A.model_copy(update={"share": 0.6}))
    for number in range(500):
        if before.assign(str(number)).arm is not None:
            assert after.assign(str(number)).arm is not None


def test_users_are_divided_alike_whoever_does_it() -> None:
    """Others may compute this: it is part of the contract (docs/experiments.md)."""
    made = experiment(A, B)
    assert [made.assign(f"user {number}").arm for number in range(8)] == [None, None, B, B, A, None, None, A]
