"""Which release answers a user of an experiment, and what is counted for whom."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path

import grpc
import pytest

from gateway.adoption import Adoption
from gateway.experiment import GatewayExperiment, UserArm
from gateway.recommendation_ids import RecommendationIds
from gateway.releases import ServedReleases
from gateway.served_release import ServedRelease
from gateway.settings import GatewaySettings
from gateway.stage_calls import StageFailure
from tests.releases import write_random_release
from tests.unit.serving.following import until
from winnow.release.experiment import Arm, new_experiment, remove_experiment, write_experiment
from winnow.serving.metrics import Metrics
from winnow.users.events import Event, EventKind

NOT_HELD = StageFailure("ranking", grpc.StatusCode.FAILED_PRECONDITION)


@asynccontextmanager
async def gateway_with_an_arm(directory: Path, metrics: Metrics, share: float = 1.0) -> AsyncIterator[ServedReleases]:
    """A gateway without stages, whose experiment has the arm `b`; its release is the older one."""
    arm = write_random_release(directory, seed=2)
    current = write_random_release(directory, seed=1)
    write_experiment(
        directory,
        new_experiment("trial", (Arm(name="b", release_id=arm, share=share),), current, datetime.now(UTC)),
    )
    target = "127.0.0.1:1"
    settings = GatewaySettings(
        releases=directory, release_poll_seconds=0.01, candidate_target=target, ranking_target=target
    )
    releases = ServedReleases(settings, metrics)
    await releases.keeper.load_current()
    watching = asyncio.create_task(releases.watch())

    def loaded() -> bool:
        waits = any(status.release_id == arm and status.reason for status in releases.keeper.status())
        return waits or releases.keeper.of_arm(arm) is not None

    await until(loaded)
    try:
        yield releases
    finally:
        watching.cancel()
        await asyncio.gather(watching, return_exceptions=True)
        await releases.close()


@pytest.fixture
def stages_hold_everything(monkeypatch: pytest.MonkeyPatch) -> None:
    async def waits_for(*_arguments: object, **_options: object) -> str:
        return ""

    monkeypatch.setattr(Adoption, "waits_for", waits_for)


async def answering(releases: ServedReleases, arm: UserArm | None, *failures: StageFailure) -> tuple[str, list[bool]]:
    """The release that answers after those before it have failed, and whether each had another one to try."""
    failing = iter(failures)
    others: list[bool] = []

    async def respond(release: ServedRelease, other_release: bool) -> str:
        others.append(other_release)
        if (failure := next(failing, None)) is not None:
            raise failure
        return release.catalogue.release_id

    return await releases.answer(respond, arm), others


def blamed(release: ServedRelease) -> list[bool]:
    """Whether failures of its calls are held against the replicas of each stage."""
    return [stage.caller.blames for stage in (release.candidate_stage, release.ranking_stage)]


def fallbacks(metrics: Metrics, reason: str) -> float:
    value = metrics.registry.get_sample_value(
        "winnow_experiment_fallbacks_total", {"experiment": "trial", "arm": "b", "reason": reason}
    )
    assert value is not None
    return value


@pytest.mark.usefixtures("stages_hold_everything")
def test_the_release_of_the_arm_answers_and_the_current_one_where_a_stage_lacks_it(tmp_path: Path) -> None:
    async def main() -> None:
        metrics = Metrics()
        async with gateway_with_an_arm(tmp_path, metrics) as releases:
            arm = releases.arm_of("ann")
            assert arm is not None
            assert arm.release_id is not None
            await until(lambda: releases.keeper.of_arm(str(arm.release_id)) is not None)
            assert await answering(releases, arm) == (arm.release_id, [True])
            assert releases.is_of_arm(arm.release_id, arm)
            current = releases.keeper.current.release_id
            assert await answering(releases, arm, NOT_HELD) == (current, [True, False])
            assert not releases.is_of_arm(current, arm)
            assert (fallbacks(metrics, "stage"), fallbacks(metrics, "waiting")) == (1, 0)
            with pytest.raises(StageFailure, match="INTERNAL"):
                await answering(releases, arm, StageFailure("ranking", grpc.StatusCode.INTERNAL))
            assert releases.arm_of("") is None, "nobody without a user id takes part"
            assert await answering(releases, None) == (current, [False]), "nor falls back to what is being tried"

    asyncio.run(main())


def test_while_the_stages_lack_it_nobody_is_sent_there(tmp_path: Path) -> None:
    async def main() -> None:
        metrics = Metrics()
        async with gateway_with_an_arm(tmp_path, metrics) as releases:
            arm = releases.arm_of("ann")
            assert await answering(releases, arm) == (releases.keeper.current.release_id, [False])
            assert (fallbacks(metrics, "stage"), fallbacks(metrics, "waiting")) == (0, 1)

    asyncio.run(main())


@pytest.mark.usefixtures("stages_hold_everything")
def test_its_calls_are_held_against_replicas_only_when_it_is_current(tmp_path: Path) -> None:
    async def main() -> None:
        async with gateway_with_an_arm(tmp_path, Metrics()) as releases:
            arm = releases.arm_of("ann")
            assert arm is not None
            release_id = str(arm.release_id)
            await until(lambda: releases.keeper.of_arm(release_id) is not None)
            held = releases.keeper.of_arm(release_id)
            assert held is not None
            assert blamed(held.loaded) == [False, False]
            assert blamed(releases.current) == [True, True]
            (tmp_path / "CURRENT").write_text(release_id)
            await until(lambda: releases.keeper.current is held)
            assert blamed(held.loaded) == [True, True]
            assert releases.is_of_arm(release_id, arm)

    asyncio.run(main())


def test_without_an_experiment_nobody_has_an_arm(tmp_path: Path) -> None:
    async def main() -> None:
        async with gateway_with_an_arm(tmp_path, Metrics()) as releases:
            assert releases.arm_of("ann") is not None
            remove_experiment(tmp_path)
            await until(lambda: releases.arm_of("ann") is None)
            assert releases.shadow is None

    asyncio.run(main())


def test_events_that_cite_an_answer_of_another_arm_count_for_nobody() -> None:
    metrics, release_id = Metrics(), "20260101T000000Z-000000000000"
    arms = (Arm(name="b", release_id=release_id, share=0.5),)
    running = GatewayExperiment(new_experiment("trial", arms, release_id, datetime.now(UTC)), metrics)
    users = {running.arm_of(user_id).figures.name: user_id for user_id in map(str, range(100))}
    cited = RecommendationIds().marked(running.arm_of(users["b"]).figures.mark)
    for user_id in users.values():
        running.count_events([Event(user_id, "1", EventKind.CLICK, "item", 1, recommendation_id=cited)])
    counted = [
        (sample.labels["arm"], sample.labels["group"])
        for family in metrics.registry.collect()
        for sample in family.samples
        if sample.name == "winnow_experiment_events_total" and sample.value
    ]
    assert counted == [("b", str(running.arm_of(users["b"]).group))]
