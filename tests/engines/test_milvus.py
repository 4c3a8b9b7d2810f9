"""Releases published to a real Milvus, and the services that search there: the answers of the plain computation."""

import asyncio
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.conftest import local_stack
from tests.end_to_end.test_filters import FILTERS
from tests.end_to_end.test_stack import assert_same, random_history
from tests.engines.milvus_server import MilvusServer
from tests.reference import DirectRecommender
from tests.releases import ITEM_COUNT, item_id, write_random_release
from tests.service.process import start
from tests.traffic import assert_unmixed, steady_traffic
from tests.unit.release.test_derivation import NEW_COUNT, derive, some_changes
from winnow.catalogue.filters.checker import read_filter
from winnow.client import DegradationStep, WinnowClient
from winnow.history import RaggedRows, WatchHistories
from winnow.index.choose import recall_of_each
from winnow.index.exact import ExactIndex
from winnow.milvus.connection import EngineError, MilvusAddress
from winnow.milvus.expressions import translate
from winnow.milvus.filling import FILES, Filling
from winnow.milvus.index import NO_FILTER, MilvusIndex
from winnow.milvus.record import RECORD_PROPERTY, collection_name
from winnow.queries import Candidates, Restriction, RetrievalQuery
from winnow.release.models.loader import load_candidate_network
from winnow.release.publication import point_current_at
from winnow.release.reader import current_release_id, open_release
from winnow.serving.local_stack import LocalStack

pytestmark = pytest.mark.engines

FAST_SWAPS = ["--release-poll-seconds=0.1", "--release-retire-seconds=1"]


def publish(releases: Path, release_id: str, milvus: MilvusServer, *options: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "winnow", "publish", release_id, f"--releases={releases}", "--engine=milvus"]
    return subprocess.run(
        [*command, f"--engine-address={milvus.uri}", *options], capture_output=True, text=True, timeout=120
    )


def collections(address: MilvusAddress) -> set[str]:
    with address.client(10) as client:
        return set(client.list_collections())


@dataclass(frozen=True)
class Served:
    """A stack whose candidate service searches in Milvus."""

    stack: LocalStack
    releases: Path
    release_id: str


@pytest.fixture(scope="module")
def served(milvus: MilvusServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    releases = tmp_path_factory.mktemp("milvus-releases")
    release_id = write_random_release(releases, seed=1)
    made = publish(releases, release_id, milvus)
    assert made.returncode == 0, made.stderr
    engine = ["--engine=milvus", f"--engine-address={milvus.uri}"]
    with local_stack(releases, all=FAST_SWAPS, candidate_service=engine) as stack:
        yield Served(stack, releases, release_id)


@pytest.fixture
def client(served: Served) -> Iterator[WinnowClient]:
    point_current_at(served.releases, served.release_id)
    with WinnowClient(served.stack.gateway_target, timeout_seconds=10) as opened:
        wait_for(opened, served.release_id)
        yield opened


def wait_for(client: WinnowClient, release_id: str) -> None:
    give_up = time.monotonic() + 30
    while (answer := client.recommend(random_history(0))).release_id != release_id or answer.degraded:
        assert time.monotonic() < give_up, answer
        time.sleep(0.05)


def test_answers_equal_the_plain_computation(client: WinnowClient, served: Served) -> None:
    direct = DirectRecommender(served.releases, served.release_id)
    for seed in range(10):
        history = random_history(seed)
        answer = client.recommend(history, count=50)
        assert not answer.degraded
        assert_same(answer, direct.recommend(history, 50))


@pytest.mark.parametrize("text", FILTERS)
def test_filtered_answers_equal_the_plain_computation(client: WinnowClient, served: Served, text: str) -> None:
    direct, history = DirectRecommender(served.releases, served.release_id), random_history(1)
    answer = client.recommend(history, count=50, filter=text)
    assert not answer.degraded
    assert_same(answer, direct.recommend(history, 50, matches=FILTERS[text]))
    possible = {row for row in range(ITEM_COUNT) if FILTERS[text](row)} - set(direct.vocabulary.rows(history)[0])
    assert len(client.retrieve(history, count=1000, filter=text).items) == len(possible)


def test_allow_lists_exclusions_and_filters_go_together(client: WinnowClient, served: Served) -> None:
    direct, history = DirectRecommender(served.releases, served.release_id), random_history(3)
    allowed, excluded = set(range(0, ITEM_COUNT, 3)), set(range(0, ITEM_COUNT, 12))
    answer = client.recommend(
        history,
        count=50,
        filter="year >= 2000",
        allowed_item_ids=map(item_id, allowed),
        excluded_item_ids=map(item_id, excluded),
    )
    expected = direct.recommend(
        history,
        50,
        matches=lambda row: FILTERS["year >= 2000"](row) and row in allowed and row not in excluded,
    )
    assert_same(answer, expected)


def test_swaps_under_traffic_keep_each_request_to_the_collection_of_its_release(
    served: Served, milvus: MilvusServer
) -> None:
    elsewhere = served.releases
    histories = [random_history(seed) for seed in range(6)]
    second = write_random_release(elsewhere, seed=2)
    # Written releases are current at once; with an engine they are not to be before Milvus holds them.
    point_current_at(elsewhere, served.release_id)
    with steady_traffic(served.stack.gateway_target, histories, timeout_seconds=5) as traffic:
        made = publish(elsewhere, second, milvus)
        assert made.returncode == 0, made.stderr
        traffic.wait_for_release(second)
        assert publish(elsewhere, served.release_id, milvus).returncode == 0
        traffic.wait_for_release(served.release_id)
    assert_unmixed(traffic, {id_: DirectRecommender(elsewhere, id_) for id_ in (served.release_id, second)})
    assert {answer.release_id for answer in traffic.answers()} == {served.release_id, second}


def test_a_release_that_milvus_does_not_hold_is_refused_until_it_does(
    client: WinnowClient, served: Served, milvus: MilvusServer
) -> None:
    unfilled = write_random_release(served.releases, seed=5)
    time.sleep(2)
    answer = client.recommend(random_history(0))
    assert (answer.release_id, answer.degraded) == (served.release_id, False)
    service = start("candidate_service", f"--releases={served.releases}", "--port=0", "--engine=milvus",
                    f"--engine-address={milvus.uri}")  # fmt: skip
    _, errors = service.communicate(timeout=60)
    assert service.returncode != 0
    assert f"Milvus has no collection {collection_name(unfilled)}" in errors
    assert f"winnow publish {unfilled} --engine milvus" in errors
    assert publish(served.releases, unfilled, milvus).returncode == 0
    wait_for(client, unfilled)


def test_retired_items_are_never_found_and_new_ones_are(
    client: WinnowClient, served: Served, milvus: MilvusServer
) -> None:
    base = open_release(served.releases / write_random_release(served.releases, seed=9, takes_new_items=True))
    point_current_at(served.releases, served.release_id)
    retired = set(map(item_id, range(0, ITEM_COUNT, 2)))
    derived = derive(base, some_changes(), retire=sorted(retired)).release_id
    made = publish(served.releases, derived, milvus)
    assert made.returncode == 0, made.stderr
    assert "154 items written" in made.stdout
    wait_for(client, derived)
    found = {item.item_id for item in client.retrieve([item_id(1)], count=1000).items}
    assert not found & retired
    assert len(found) == ITEM_COUNT // 2 - 1 + NEW_COUNT  # without the one that was watched
    matching = {item.item_id for item in client.retrieve([item_id(1)], count=1000, filter="genres:Drama").items}
    assert {"new 1"} <= matching < found
    only_retired = client.retrieve([item_id(1)], count=10, allowed_item_ids=sorted(retired))
    assert only_retired.items == ()


def test_a_silent_milvus_degrades_answers_in_time_and_they_recover(
    client: WinnowClient, served: Served, milvus: MilvusServer
) -> None:
    milvus.pause()
    try:
        with WinnowClient(served.stack.gateway_target, timeout_seconds=3) as patient:
            started = time.monotonic()
            answer = patient.recommend(random_history(1))
            assert time.monotonic() - started < 3
            assert answer.degradation.step is DegradationStep.POPULAR_RANKED
            assert answer.degradation.reason == "candidate: DEADLINE_EXCEEDED"
            assert answer.items
    finally:
        milvus.resume()
    wait_for(client, served.release_id)


def test_what_is_current_stays_so_where_milvus_finds_too_little(
    served: Served, address: MilvusAddress, client: WinnowClient
) -> None:
    poor = write_random_release(served.releases, seed=7)
    point_current_at(served.releases, served.release_id)
    filling = Filling(
        release=open_release(served.releases / poor, FILES),
        address=address,
        least_recall=1.1,
        timeout_seconds=60,
        report=lambda _line: None,
    )
    with pytest.raises(EngineError, match=r"Milvus finds 100.0% of the best 200, not 110.0%"):
        filling.fill()
    assert collection_name(poor) not in collections(address)
    assert current_release_id(served.releases) == served.release_id
    assert replace(filling, least_recall=0.9).fill().recall_at_200 >= 0.9
    with address.client(10) as opened:
        opened.drop_collection(collection_name(poor))


def test_what_was_left_half_filled_is_not_searched_and_is_filled_again(
    milvus: MilvusServer, address: MilvusAddress, tmp_path: Path
) -> None:
    release_id = write_random_release(tmp_path, seed=11)
    name = collection_name(release_id)
    with address.client(10) as opened:
        opened.create_collection(name, dimension=3)
    service = start("candidate_service", f"--releases={tmp_path}", "--port=0", "--engine=milvus",
                    f"--engine-address={milvus.uri}")  # fmt: skip
    _, errors = service.communicate(timeout=60)
    assert f"{name} was not filled to the end" in errors
    made = publish(tmp_path, release_id, milvus)
    assert made.returncode == 0, made.stderr
    assert "it is filled again" in made.stdout
    assert "300 items written" in made.stdout


def test_a_collection_that_does_not_hold_its_release_any_more_is_filled_again(
    milvus: MilvusServer, address: MilvusAddress, tmp_path: Path
) -> None:
    """Or every further publication would fail until somebody drops it by hand."""
    release_id = write_random_release(tmp_path, seed=12)
    name = collection_name(release_id)
    assert publish(tmp_path, release_id, milvus).returncode == 0
    with address.client(30) as opened:
        opened.delete(name, filter="row < 5")
    made = publish(tmp_path, release_id, milvus)
    assert made.returncode == 0, made.stderr
    assert f"it is filled again: {name} holds 295 items, not 300" in made.stdout
    with address.client(30) as opened:
        opened.alter_collection_properties(name, {RECORD_PROPERTY: "{"})
    made = publish(tmp_path, release_id, milvus)
    assert made.returncode == 0, made.stderr
    assert f"it is filled again: {name}: its property winnow.record cannot be read" in made.stdout
    made = publish(tmp_path, release_id, milvus)
    assert f"{name} is there already" in made.stdout


def test_collections_of_old_releases_are_dropped_and_those_of_others_stay(
    milvus: MilvusServer, address: MilvusAddress, tmp_path: Path
) -> None:
    with address.client(30) as opened:
        for other in ("somebody_elses", collection_name("20200101T000000Z-000000000000")):
            opened.create_collection(other, dimension=3)
    published = []
    for seed in range(20, 23):
        published.append(write_random_release(tmp_path, seed=seed, item_count=20))
        # The second stays current until Milvus holds the third.
        point_current_at(tmp_path, published[max(0, len(published) - 2)])
        made = publish(tmp_path, published[-1], milvus, "--engine-keep=1")
        assert made.returncode == 0, made.stderr
    there = collections(address)
    assert {collection_name(release_id) for release_id in published} & there == set(map(collection_name, published[1:]))
    assert {"somebody_elses", collection_name("20200101T000000Z-000000000000")} <= there


def test_two_processes_do_not_fill_the_same_collection(milvus: MilvusServer, tmp_path: Path) -> None:
    release_id = write_random_release(tmp_path, seed=30)
    outcomes = []
    threads = [
        threading.Thread(target=lambda: outcomes.append(publish(tmp_path, release_id, milvus))) for _ in range(2)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    refused = [outcome for outcome in outcomes if outcome.returncode]
    assert len(refused) <= 1
    for outcome in refused:
        assert "is being published by another process" in outcome.stderr


def test_a_filter_that_matches_little_finds_all_of_it_in_an_index_of_lists(
    address: MilvusAddress, tmp_path: Path
) -> None:
    """Large enough for Milvus to index the segment, and to scan a part of it only."""
    release_id = write_random_release(tmp_path, item_count=5_000)
    release = open_release(tmp_path / release_id)
    record = Filling(
        release=release, address=address, least_recall=0.9, timeout_seconds=100, report=lambda _line: None
    ).fill()
    assert record.probe_count < record.list_count
    query = RetrievalQuery(
        histories=WatchHistories.empty(2),
        counts=np.array([200, 200], dtype=np.int32),
        exclusions=RaggedRows.from_lists([[0, 30], []]),
        restrictions={
            0: Restriction(filter="year = 1990"),
            1: Restriction(allowed=np.arange(0, 5_000, 25, dtype=np.int32)),
        },
    )

    async def search() -> Candidates:
        async with address.channel() as channel:
            index = MilvusIndex(channel, address, record, 5_000)
            users = np.random.default_rng(0).normal(size=(2, 8)).astype(np.float32)
            translated = translate(read_filter("year = 1990", record.schema_of_filters), record.fields)
            deadline = asyncio.get_running_loop().time() + 30
            return await index.search(users, query, lambda _canonical: translated, deadline)

    found = asyncio.run(search())
    assert set(found.rows[0].tolist()) == set(range(60, 5_000, 30))
    assert set(found.rows[1].tolist()) == set(range(0, 5_000, 25))
    with address.client(10) as opened:
        opened.drop_collection(collection_name(release_id))


def test_the_lists_that_a_query_scans_suffice_for_short_answers_too(address: MilvusAddress, tmp_path: Path) -> None:
    """What is searched again in all lists must not hide how little the nearest ones have."""
    release_id = write_random_release(tmp_path, item_count=5_000)
    release = open_release(tmp_path / release_id)
    filling = Filling(release=release, address=address, least_recall=0.9, timeout_seconds=100, report=lambda _: None)
    record = filling.fill()
    network = load_candidate_network(release, torch.device("cpu"))
    (users_BH, _) = filling._sample_users(network)
    query = RetrievalQuery.without_histories(np.full(len(users_BH), 20, dtype=np.int32))

    async def search() -> Candidates:
        async with address.channel() as channel:
            index = MilvusIndex(channel, address, record, 5_000)
            deadline = asyncio.get_running_loop().time() + 30
            return await index.search(users_BH.numpy(), query, lambda _canonical: NO_FILTER, deadline)

    true = ExactIndex(network.item_vectors_IH).search(users_BH, query)
    assert recall_of_each(asyncio.run(search()).rows, true.rows).mean() > 0.85
    with address.client(10) as opened:
        opened.drop_collection(collection_name(release_id))
