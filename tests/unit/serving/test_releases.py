"""How a service follows CURRENT: what is loaded, refused, tried again, kept and dropped."""

import asyncio
import gc
import os
import weakref
from pathlib import Path

import pytest

from tests.releases import write_random_release
from tests.unit.serving.following import Loaded, Loader, following, reason_of, some_polls, state_of, until
from winnow.release.publication import point_current_at
from winnow.release.reader import ReleaseError
from winnow.serving.release_status import ReleaseState


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (ReleaseError("the weights do not fit"), "the weights do not fit"),
        (ValueError("not an index"), "not an index"),
        (RuntimeError("CUDA out of memory: a long story"), "RuntimeError while loading, see the log"),
        (AttributeError("'NoneType' object has no attribute 'shape'"), "AttributeError while loading, see the log"),
        (MemoryError(), "MemoryError while loading, see the log"),
    ],
)
def test_a_release_that_cannot_be_loaded_is_refused_once_whatever_is_wrong_with_it(
    tmp_path: Path, loader: Loader, error: Exception, reason: str
) -> None:
    async def main() -> None:
        good = write_random_release(tmp_path, seed=1)
        async with following(tmp_path, loader) as keeper:
            loader.error = error
            bad = write_random_release(tmp_path, seed=2)
            await until(lambda: state_of(keeper, bad) is ReleaseState.REFUSED)
            assert reason in reason_of(keeper, bad)
            await some_polls(keeper)
            assert loader.attempts == [good, bad], "not again and again"
            assert keeper.current.release_id == good

    asyncio.run(main())


def test_a_first_release_that_cannot_be_loaded_is_a_reason_not_to_start(tmp_path: Path, loader: Loader) -> None:
    async def main() -> None:
        release_id = write_random_release(tmp_path)
        loader.error = RuntimeError("CUDA out of memory")
        with pytest.raises(ReleaseError, match=f"release {release_id}: RuntimeError while loading, see the log"):
            async with following(tmp_path, loader):
                pass

    asyncio.run(main())


def test_what_was_refused_is_tried_again_when_an_operator_asks(tmp_path: Path, loader: Loader) -> None:
    async def main() -> None:
        write_random_release(tmp_path, seed=1)
        async with following(tmp_path, loader) as keeper:
            loader.error = RuntimeError("CUDA out of memory")
            second = write_random_release(tmp_path, seed=2)
            await until(lambda: state_of(keeper, second) is ReleaseState.REFUSED)
            loader.error = None
            keeper.look_now()
            await until(lambda: state_of(keeper, second) is ReleaseState.CURRENT)

    asyncio.run(main())


def test_what_was_refused_is_tried_again_when_current_names_it_anew(tmp_path: Path, loader: Loader) -> None:
    async def main() -> None:
        first = write_random_release(tmp_path, seed=1)
        async with following(tmp_path, loader) as keeper:
            loader.error = RuntimeError("CUDA out of memory")
            second = write_random_release(tmp_path, seed=2)
            await until(lambda: state_of(keeper, second) is ReleaseState.REFUSED)
            loader.error = None
            point_current_at(tmp_path, first)
            await some_polls(keeper)
            assert state_of(keeper, second) is ReleaseState.REFUSED, "operators still see why"
            point_current_at(tmp_path, second)
            await until(lambda: state_of(keeper, second) is ReleaseState.CURRENT)

    asyncio.run(main())


def test_a_release_in_use_is_kept_and_then_dropped(tmp_path: Path, loader: Loader) -> None:
    async def main() -> None:
        first = write_random_release(tmp_path, seed=1)
        async with following(tmp_path, loader, retire_seconds=0.05) as keeper:
            with keeper.held(first):
                second = write_random_release(tmp_path, seed=2)
                await until(lambda: keeper.current.release_id == second)
                await some_polls(keeper)
                assert state_of(keeper, first) is ReleaseState.RETIRING
            await until(lambda: state_of(keeper, first) is None)
            assert state_of(keeper, second) is ReleaseState.CURRENT

    asyncio.run(main())


def test_the_garbage_collector_never_walks_over_a_release_and_a_dropped_one_is_freed_without_it(
    tmp_path: Path, loader: Loader
) -> None:
    def collectable() -> bool:
        return any(isinstance(found, Loaded) for found in gc.get_objects())

    async def main() -> None:
        first = write_random_release(tmp_path, seed=1)
        async with following(tmp_path, loader, retire_seconds=0) as keeper:
            assert not collectable()
            dropped = weakref.ref(keeper.held(first).loaded)
            second = write_random_release(tmp_path, seed=2)
            await until(lambda: keeper.current.release_id == second)
            assert not collectable(), "nor over one that was loaded later"
            await until(lambda: state_of(keeper, first) is None)
            assert dropped() is None

    asyncio.run(main())


def test_a_release_for_which_there_is_too_little_memory_is_refused(
    tmp_path: Path, loader: Loader, monkeypatch: pytest.MonkeyPatch
) -> None:
    mib = 2**20
    left = [10 * mib]
    monkeypatch.setattr("winnow.serving.release_loader.available_bytes", lambda: left[0])

    async def main() -> None:
        write_random_release(tmp_path, seed=1)
        async with following(tmp_path, loader, derived_bytes=5 * mib) as keeper:
            left[0] = 4 * mib
            second = write_random_release(tmp_path, seed=2)
            await until(lambda: state_of(keeper, second) is ReleaseState.REFUSED)
            assert "needs about 5 MiB of memory, 4 MiB are left" in reason_of(keeper, second)

    asyncio.run(main())


@pytest.mark.parametrize(("left", "fits"), [(1.9, False), (2.1, True), (None, True)])
def test_what_is_read_of_a_release_has_to_fit_twice(
    tmp_path: Path, loader: Loader, monkeypatch: pytest.MonkeyPatch, left: float | None, fits: bool
) -> None:
    async def main() -> bool:
        release = tmp_path / write_random_release(tmp_path)
        file_bytes = (release / "golden.safetensors").stat().st_size  # all that this keeper reads
        available = None if left is None else int(left * file_bytes)
        monkeypatch.setattr("winnow.serving.release_loader.available_bytes", lambda: available)
        try:
            async with following(tmp_path, loader):
                return True
        except ReleaseError:
            return False

    assert asyncio.run(main()) == fits


def moved_away(releases: Path, release_id: str) -> Path:
    """Take a release that CURRENT names away, and return where it is."""
    elsewhere = releases.parent / "elsewhere"
    elsewhere.mkdir()
    return (releases / release_id).rename(elsewhere / release_id)


def test_a_release_whose_files_come_after_current_names_it_is_awaited(tmp_path: Path, loader: Loader) -> None:
    async def main() -> None:
        releases = tmp_path / "releases"
        first = write_random_release(releases, seed=1)
        second = write_random_release(releases, seed=2)
        source = moved_away(releases, second)
        point_current_at(releases, first)
        async with following(releases, loader) as keeper:
            point_current_at(releases, second)
            await until(lambda: reason_of(keeper, second) == f"release {second}: manifest.json is missing")
            assert state_of(keeper, second) is ReleaseState.LOADING
            (releases / second).mkdir()
            names = sorted((path.name for path in source.iterdir()), key=lambda name: name != "manifest.json")
            for name in names:
                data = (source / name).read_bytes()
                for part in (data[: len(data) // 2], data):
                    (releases / second / name).write_bytes(part)
                    await some_polls(keeper)
                    if name != names[-1]:
                        assert state_of(keeper, second) is ReleaseState.LOADING
            await until(lambda: keeper.current.release_id == second)
            assert loader.attempts == [first, second]

    asyncio.run(main())


def test_a_release_whose_files_never_come_is_refused_in_the_end(
    tmp_path: Path, loader: Loader, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("winnow.serving.release_loader.INCOMPLETE_SECONDS", 0.2)

    async def main() -> None:
        write_random_release(tmp_path)
        async with following(tmp_path, loader) as keeper:
            absent = "20300101T000000Z-0123456789ab"
            point_current_at(tmp_path, absent)
            await until(lambda: state_of(keeper, absent) is ReleaseState.LOADING)
            await until(lambda: state_of(keeper, absent) is ReleaseState.REFUSED)
            assert reason_of(keeper, absent) == f"release {absent}: manifest.json is missing"

    asyncio.run(main())


def test_a_damaged_file_that_is_mended_needs_nobody_to_ask(tmp_path: Path, loader: Loader) -> None:
    async def main() -> None:
        first = write_random_release(tmp_path, seed=1)
        second = write_random_release(tmp_path, seed=2)
        file = tmp_path / second / "golden.safetensors"
        good = file.read_bytes()
        file.write_bytes(good[:-1] + bytes([good[-1] ^ 1]))
        point_current_at(tmp_path, first)
        async with following(tmp_path, loader) as keeper:
            point_current_at(tmp_path, second)
            await until(lambda: state_of(keeper, second) is ReleaseState.REFUSED)
            file.write_bytes(good)
            await until(lambda: keeper.current.release_id == second)

    asyncio.run(main())


def test_a_pipe_named_current_holds_nobody_up(tmp_path: Path, loader: Loader) -> None:
    async def main() -> None:
        first = write_random_release(tmp_path)
        async with following(tmp_path, loader) as keeper:
            (tmp_path / "CURRENT").unlink()
            os.mkfifo(tmp_path / "CURRENT")
            await some_polls(keeper)
            assert keeper.current.release_id == first
            (tmp_path / "CURRENT").unlink()
            second = write_random_release(tmp_path, seed=2)
            await until(lambda: keeper.current.release_id == second)

    asyncio.run(main())


def test_what_a_loaded_release_waits_for_is_said(tmp_path: Path, loader: Loader) -> None:
    waits_for = ["ranking: not held by ipv4:10.0.0.3:50052"]

    async def main() -> None:
        first = write_random_release(tmp_path, seed=1)
        async with following(tmp_path, loader, waits_for=lambda: waits_for[0]) as keeper:
            second = write_random_release(tmp_path, seed=2)
            await until(lambda: reason_of(keeper, second) == waits_for[0])
            assert state_of(keeper, second) is ReleaseState.WAITING
            assert keeper.current.release_id == first
            waits_for[0] = ""
            await until(lambda: keeper.current.release_id == second)
            assert reason_of(keeper, second) == ""

    asyncio.run(main())
