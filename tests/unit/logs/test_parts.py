from pathlib import Path

import numpy as np
import pytest

from winnow.logs.parts import part_folders, part_name, parts_of_rank, parts_of_users


def test_the_part_of_a_user_never_changes() -> None:
    """Other programs write the same parts: the first number is the check value of CRC-32."""
    assert parts_of_users(["123456789", "", "Käse"], 2**32).tolist() == [0xCBF43926, 0, 0x6A4295F3]
    assert parts_of_users(["123456789"], 64).tolist() == [0xCBF43926 % 64]


@pytest.mark.parametrize("rank_count", [1, 2, 3, 64])
def test_each_part_is_of_one_rank(rank_count: int) -> None:
    shares = [parts_of_rank(rank, rank_count, 64) for rank in range(rank_count)]
    assert sorted(part for share in shares for part in share) == list(range(64))
    assert max(map(len, shares)) - min(map(len, shares)) <= 1


def test_users_are_spread_evenly_over_the_parts() -> None:
    for name in ("{}", "u{}", "user-{:08d}"):
        counts = np.bincount(parts_of_users(name.format(number) for number in range(64_000)), minlength=64)
        assert counts.min() > 800
        assert counts.max() < 1_200


@pytest.mark.parametrize(("rank", "rank_count"), [(2, 2), (-1, 2), (0, 65)])
def test_a_rank_without_a_part_is_refused(rank: int, rank_count: int) -> None:
    with pytest.raises(ValueError, match=r"rank 2|rank -1|65 processes cannot share 64 parts"):
        parts_of_rank(rank, rank_count, 64)


def test_folders_of_parts_come_in_the_order_of_their_numbers(tmp_path: Path) -> None:
    for part in (10, 9, 0):
        (tmp_path / part_name(part)).mkdir()
    (tmp_path / "_temporary").mkdir()
    (tmp_path / "_SUCCESS").touch()
    assert list(part_folders(tmp_path)) == [0, 9, 10]
    assert part_folders(tmp_path / "log.csv") == {}
