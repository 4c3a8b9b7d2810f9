"""Which collections are dropped while several processes publish."""

from pathlib import Path

import pytest

from tests.unit.milvus.fake_milvus import FakeMilvus, fake_milvus
from winnow.locks import try_lock
from winnow.milvus.publication import _drop_older
from winnow.milvus.record import collection_name
from winnow.release.publication import point_current_at

RELEASES = [f"2026010{day}T000000Z-0123456789ab" for day in range(1, 8)]
OLDEST, NEWEST = RELEASES[0], RELEASES[-1]


@pytest.fixture
def releases(tmp_path: Path) -> Path:
    for release_id in RELEASES:
        (tmp_path / release_id).mkdir()
    point_current_at(tmp_path, NEWEST)
    return tmp_path


def left(releases: Path) -> set[str]:
    """Drop what the publication of the newest release drops, and return the releases that still have collections."""
    fake = FakeMilvus([collection_name(release_id) for release_id in RELEASES])
    with fake_milvus(fake) as address:
        _drop_older(releases, {NEWEST}, address, keep=1, timeout_seconds=10, report=lambda _line: None)
    return {release_id for release_id in RELEASES if collection_name(release_id) in fake.collections}


def test_the_latest_ones_are_kept(releases: Path) -> None:
    assert left(releases) == {*RELEASES[-2:]}


def test_one_that_another_process_is_publishing_is_kept(releases: Path) -> None:
    """As where somebody rolls back to an old release while a new one is published."""
    with try_lock(releases / OLDEST) as free:
        assert free
        assert left(releases) == {OLDEST, *RELEASES[-2:]}


def test_one_that_has_become_current_meanwhile_is_kept(releases: Path) -> None:
    point_current_at(releases, OLDEST)
    assert left(releases) == {OLDEST, *RELEASES[-2:]}
