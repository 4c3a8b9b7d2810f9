"""How a service follows EXPERIMENT: its releases are held beside the current one, and never in its way."""

import asyncio
import threading
from datetime import UTC, datetime
from pathlib import Path

from tests.releases import write_random_release
from tests.unit.serving.following import Loader, following, reason_of, some_polls, state_of, until
from winnow.release.experiment import EXPERIMENT_FILE, Arm, new_experiment, remove_experiment, write_experiment
from winnow.release.publication import point_current_at
from winnow.serving.release_status import ReleaseState


def write(releases: Path, *release_ids: str, name: str = "trial") -> None:
    """Begin an experiment whose arms are a0, a1 and so on."""
    arms = tuple(Arm(name=f"a{n}", release_id=id_, share=0.1) for n, id_ in enumerate(release_ids))
    write_experiment(releases, new_experiment(name, arms, "r1", datetime.now(UTC)))


def test_its_releases_are_held_while_it_runs_and_dropped_after_it(tmp_path: Path, loader: Loader) -> None:
    async def main() -> None:
        arm = write_random_release(tmp_path, seed=2)
        current = write_random_release(tmp_path, seed=1)
        async with following(tmp_path, loader, retire_seconds=0.05) as keeper:
            assert keeper.experiment_status() is None
            write(tmp_path, arm)
            await until(lambda: state_of(keeper, arm) is ReleaseState.EXPERIMENT)
            held = keeper.of_arm(arm)
            assert held is not None
            assert held.release_id == arm
            assert keeper.current.release_id == current
            await some_polls(keeper)
            assert state_of(keeper, arm) is ReleaseState.EXPERIMENT, "although nobody uses it"
            status = keeper.experiment_status()
            assert status is not None
            assert [(found.name, found.release_id, found.waits_for) for found in status.arms] == [("a0", arm, "")]
            remove_experiment(tmp_path)
            await until(lambda: state_of(keeper, arm) is None)
            assert keeper.experiment_status() is None

    asyncio.run(main())


def test_an_experiment_that_runs_at_the_start_is_known_from_the_first_request_on(
    tmp_path: Path, loader: Loader
) -> None:
    async def main() -> None:
        arm = write_random_release(tmp_path, seed=2)
        current = write_random_release(tmp_path, seed=1)
        write(tmp_path, arm)
        async with following(tmp_path, loader) as keeper:
            status = keeper.experiment_status()
            assert status is not None
            assert status.arms[0].waits_for == "it is being loaded"
            assert keeper.current.release_id == current
            await until(lambda: keeper.of_arm(arm) is not None)

    asyncio.run(main())


def test_no_other_request_falls_back_to_a_release_that_is_being_tried(tmp_path: Path, loader: Loader) -> None:
    async def main() -> None:
        arm, before, current = (write_random_release(tmp_path, seed=seed) for seed in (3, 2, 1))
        point_current_at(tmp_path, before)
        async with following(tmp_path, loader) as keeper:
            write(tmp_path, arm)
            await until(lambda: state_of(keeper, arm) is ReleaseState.EXPERIMENT)
            point_current_at(tmp_path, current)
            await until(lambda: keeper.current.release_id == current)
            assert [held.release_id for held in keeper.others()] == [before]

    asyncio.run(main())


def test_a_release_that_cannot_be_loaded_is_no_part_of_it_and_the_others_are(tmp_path: Path, loader: Loader) -> None:
    async def main() -> None:
        good, current = (write_random_release(tmp_path, seed=seed) for seed in (2, 1))
        absent = "20300101T000000Z-0123456789ab"
        async with following(tmp_path, loader) as keeper:
            write(tmp_path, absent, good)
            await until(lambda: state_of(keeper, good) is ReleaseState.EXPERIMENT)
            await until(lambda: "manifest.json is missing" in reason_of(keeper, absent))
            assert keeper.of_arm(absent) is None
            status = keeper.experiment_status()
            assert status is not None
            assert "manifest.json is missing" in status.arms[0].waits_for
            assert keeper.current.release_id == current

    asyncio.run(main())


def test_what_waits_for_the_stages_gets_no_requests(tmp_path: Path, loader: Loader) -> None:
    waits_for = ["ranking: not held by ipv4:10.0.0.3:50052"]

    async def main() -> None:
        arm, _ = (write_random_release(tmp_path, seed=seed) for seed in (2, 1))
        async with following(tmp_path, loader, waits_for=lambda: waits_for[0]) as keeper:
            write(tmp_path, arm)
            await until(lambda: reason_of(keeper, arm) == waits_for[0])
            assert state_of(keeper, arm) is ReleaseState.WAITING
            assert keeper.of_arm(arm) is None
            waits_for[0] = ""
            await until(lambda: keeper.of_arm(arm) is not None)
            waits_for[0] = "ranking: not held by ipv4:10.0.0.3:50052"
            await until(lambda: keeper.of_arm(arm) is None)

    asyncio.run(main())


def test_the_last_good_file_counts(tmp_path: Path, loader: Loader) -> None:
    async def main() -> None:
        arm, other, _ = (write_random_release(tmp_path, seed=seed) for seed in (3, 2, 1))
        async with following(tmp_path, loader, retire_seconds=0) as keeper:
            (tmp_path / EXPERIMENT_FILE).write_text("{")
            await until(lambda: keeper.experiment_status() is not None)
            write(tmp_path, arm)
            await until(lambda: keeper.of_arm(arm) is not None)
            (tmp_path / EXPERIMENT_FILE).write_text("{")
            await until(lambda: "Invalid JSON" in (status.file_error if (status := keeper.experiment_status()) else ""))
            await some_polls(keeper)
            status = keeper.experiment_status()
            assert status is not None
            assert status.name == "trial"
            assert keeper.of_arm(arm) is not None
            write(tmp_path, other, name="next")
            await until(lambda: keeper.of_arm(other) is not None)
            await until(lambda: state_of(keeper, arm) is None)
            status = keeper.experiment_status()
            assert status is not None
            assert (status.name, status.file_error) == ("next", "")

    asyncio.run(main())


def test_an_arm_that_is_published_is_not_loaded_again(tmp_path: Path, loader: Loader) -> None:
    async def main() -> None:
        arm, current = (write_random_release(tmp_path, seed=seed) for seed in (2, 1))
        async with following(tmp_path, loader, retire_seconds=0) as keeper:
            write(tmp_path, arm)
            await until(lambda: keeper.of_arm(arm) is not None)
            point_current_at(tmp_path, arm)
            await until(lambda: keeper.current.release_id == arm)
            remove_experiment(tmp_path)
            await until(lambda: keeper.experiment_status() is None and state_of(keeper, current) is None)
            assert state_of(keeper, arm) is ReleaseState.CURRENT
            assert loader.attempts == [current, arm]

    asyncio.run(main())


def test_a_roll_back_does_not_wait_for_a_release_that_is_being_loaded(tmp_path: Path, loader: Loader) -> None:
    loads = threading.Event()
    load = loader.load

    async def main() -> None:
        arm, before, current = (write_random_release(tmp_path, seed=seed) for seed in (3, 2, 1))
        point_current_at(tmp_path, before)
        async with following(tmp_path, loader) as keeper:
            point_current_at(tmp_path, current)
            await until(lambda: keeper.current.release_id == current)
            loader.load = lambda release: (loads.wait(20), load(release))[1]  # type: ignore[method-assign]
            write(tmp_path, arm)
            await until(lambda: state_of(keeper, arm) is ReleaseState.LOADING)
            point_current_at(tmp_path, before)
            await until(lambda: keeper.current.release_id == before)
            assert state_of(keeper, arm) is ReleaseState.LOADING
            loads.set()
            await until(lambda: keeper.of_arm(arm) is not None)

    asyncio.run(main())
