"""A release with an approximate index: written, tuned, opened, and refused where it is broken."""

from pathlib import Path

import numpy as np
import pytest
import torch

from candidate_service.retriever import Retriever
from tests.releases import ITEM_COUNT, write_random_release
from winnow.history import WatchHistories
from winnow.index.approximate import ApproximateIndex
from winnow.queries import RetrievalQuery
from winnow.release.golden_filters import GoldenMismatchError
from winnow.release.manifest import INDEX_FILE, IndexEntry
from winnow.release.models.loader import load_candidate_network
from winnow.release.reader import Release, open_release

CPU = torch.device("cpu")


@pytest.fixture
def release(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Release:
    """No catalogue is too small for lists here."""
    monkeypatch.setattr("winnow.index.choose.LARGEST_EXACT_TABLE", 0)
    return open_release(tmp_path / write_random_release(tmp_path))


def test_a_small_catalogue_has_no_index_file(tmp_path: Path) -> None:
    release = open_release(tmp_path / write_random_release(tmp_path))
    assert release.manifest.index == IndexEntry(kind="exact", recall_at_200=1.0)
    assert INDEX_FILE not in release.manifest.files


def test_the_manifest_tells_how_the_index_was_tuned(release: Release) -> None:
    entry = release.manifest.index
    assert entry.kind == "ivf"
    assert 1 <= entry.probe_count <= entry.list_count == 64
    assert 2 <= entry.rows_scored_for_each <= 8
    assert 0.98 <= entry.recall_at_200 <= 1
    assert entry.tuned_on_query_count == 4
    assert INDEX_FILE in release.manifest.files


def test_the_retriever_uses_it_and_scores_as_the_network_does(release: Release) -> None:
    histories = WatchHistories.from_lists([[1, 2, 3], [4]])
    query = RetrievalQuery(histories=histories, counts=np.array([200, 290], dtype=np.int32), exclusions=histories)
    approximate = Retriever.from_release(release, CPU).retrieve(query)
    exact = Retriever.from_release(release, CPU, exact_search=True).retrieve(query)
    assert approximate.rows.lengths.tolist() == exact.rows.lengths.tolist() == [200, 290]
    network = load_candidate_network(release, CPU)
    for position, history in enumerate([[1, 2, 3], [4]]):
        logits = network([torch.tensor(history)])[0].log()
        rows = approximate.rows[position].tolist()
        assert not set(rows) & set(history)
        assert len(set(rows) & set(exact.rows[position].tolist())) / len(rows) > 0.8
        start, end = approximate.rows.offsets[position : position + 2]
        np.testing.assert_allclose(np.diff(approximate.scores[start:end]), np.diff(logits[rows].numpy()), atol=1e-4)


def test_golden_requests_pass_and_a_foreign_index_does_not(release: Release, tmp_path: Path) -> None:
    golden = release.golden_requests()
    retriever = Retriever.from_release(release, CPU)
    retriever.check_golden(golden)

    network = load_candidate_network(release, CPU)
    # The index of vectors that point the other way: well-formed, of the right shape, and useless.
    foreign = ApproximateIndex.build(-network.item_vectors_IH, 32)
    foreign.probe_count = 8
    foreign.save(tmp_path / INDEX_FILE)
    opened = ApproximateIndex.open(tmp_path / INDEX_FILE, network.item_vectors_IH, probe_count=8)
    with pytest.raises(GoldenMismatchError, match=r"index: it finds \d+% of the golden candidates"):
        Retriever(network, opened, CPU, release.attributes()).check_golden(golden)


def test_rows_of_the_release_fit_its_catalogue(release: Release) -> None:
    assert Retriever.from_release(release, CPU).item_count == ITEM_COUNT
