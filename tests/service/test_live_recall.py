"""A candidate service with a poor index tells its recall while it serves."""

import time
import urllib.request
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from prometheus_client.parser import text_string_to_metric_families

from tests.releases import reseal, write_random_release
from tests.service.process import running
from winnow.history import WatchHistories
from winnow.queries import RetrievalQuery
from winnow.release.models.loader import load_candidate_network
from winnow.release.reader import open_release
from winnow.serving.local_stack import free_port
from winnow.serving.wire import pack_retrieval_query, unpack_candidates
from winnow.v1 import candidate_pb2_grpc

ITEM_COUNT = 6000
HISTORIES = [[1, 2, 3], [7], [5, 5, 9, 200], [4000, 17], [44]]


@pytest.fixture
def poor_release(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Eight lists, of which two are scanned."""
    monkeypatch.setattr("winnow.index.choose.LARGEST_EXACT_TABLE", 0)
    monkeypatch.setattr("winnow.index.choose.list_count", lambda _item_count: 8)
    release_id = write_random_release(tmp_path, item_count=ITEM_COUNT)

    def scan_fewer(manifest: dict[str, Any]) -> None:
        manifest["index"]["probe_count"] = 2

    sealed = reseal(tmp_path / release_id, scan_fewer)
    (tmp_path / "CURRENT").write_text(sealed.name)
    return sealed.name


def test_the_recall_equals_that_of_the_answers(tmp_path: Path, poor_release: str) -> None:
    network = load_candidate_network(open_release(tmp_path / poor_release), torch.device("cpu"))
    port = free_port("127.0.0.1")
    recalls = []
    with running("candidate_service", tmp_path, f"--metrics-port={port}", "--live-recall-share=1") as service:
        stub = candidate_pb2_grpc.CandidateServiceStub(service.channel)
        for number, history in enumerate(HISTORIES, start=1):
            histories = WatchHistories.from_lists([history])
            query = RetrievalQuery(histories=histories, counts=np.array([200], np.int32), exclusions=histories)
            answer = unpack_candidates(stub.RetrieveCandidates(pack_retrieval_query(query, poor_release), timeout=5))
            with torch.inference_mode():
                user_H = network.user_vectors(network.pack(histories))[0]
                scores = (network.item_vectors_IH @ user_H).numpy()
            scores[history] = -np.inf
            recalls.append(np.isin(np.argsort(-scores)[:200], answer.rows.rows).mean())
            # A request that comes during a search is not sampled.
            recall_sum = sum_of(port, number)
    assert 0.3 < np.mean(recalls) < 0.999
    assert recall_sum == pytest.approx(sum(recalls))


def sum_of(port: int, count: int) -> float:
    """The sum of the recalls, once so many have been measured."""
    give_up = time.monotonic() + 60
    while True:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics") as scrape:
            families = list(text_string_to_metric_families(scrape.read().decode()))
        found = {sample.name: sample.value for family in families for sample in family.samples if not sample.labels}
        if found["winnow_live_recall_at_200_count"] == count:
            return found["winnow_live_recall_at_200_sum"]
        assert time.monotonic() < give_up, f"{count} recalls are not measured after a minute"
        time.sleep(0.02)
