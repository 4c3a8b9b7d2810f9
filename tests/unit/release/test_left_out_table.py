"""A candidate network without its output table: the same user vectors, every byte verified, and no memory."""

from pathlib import Path

import numpy as np
import pytest
import torch

from tests.releases import write_random_release
from tests.unit.release.test_derivation import derive, some_changes
from winnow.release.manifest import CANDIDATE_NETWORK_FILE
from winnow.release.models.loader import OUTPUT_TABLE, load_candidate_network, output_table_bytes
from winnow.release.reader import Release, ReleaseError, open_release

CPU = torch.device("cpu")
LEFT_OUT = {CANDIDATE_NETWORK_FILE: OUTPUT_TABLE}
# Of 8 numbers an item: the table is larger than what is copied at once, several times.
ITEM_COUNT = 60_000


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    releases = tmp_path_factory.mktemp("releases")
    return releases / write_random_release(releases, item_count=ITEM_COUNT, with_attributes=False)


def allocated_bytes(release: Release) -> int:
    return release.file(CANDIDATE_NETWORK_FILE).stat().st_blocks * 512


def test_the_user_vectors_are_the_same_and_the_items_have_none(path: Path) -> None:
    whole = load_candidate_network(open_release(path), CPU)
    without = load_candidate_network(open_release(path, left_out=LEFT_OUT), CPU, with_output_table=False)
    assert without.item_vectors_IH.shape == whole.item_vectors_IH.shape
    assert without.item_vectors_IH.is_meta
    histories = whole.pack(open_release(path).golden_requests().histories)
    with torch.inference_mode():
        np.testing.assert_array_equal(without.user_vectors(histories), whole.user_vectors(histories))


def test_a_release_with_added_items_has_their_embeddings_and_no_table(tmp_path: Path) -> None:
    base = open_release(tmp_path / write_random_release(tmp_path, takes_new_items=True))
    made = tmp_path / derive(base, some_changes()).release_id
    whole = load_candidate_network(open_release(made), CPU)
    without = load_candidate_network(open_release(made, left_out=LEFT_OUT), CPU, with_output_table=False)
    assert without.item_vectors_IH.shape == whole.item_vectors_IH.shape
    assert without.item_vectors_IH.is_meta
    np.testing.assert_array_equal(without.embedding.weight, whole.embedding.weight)


def test_the_table_takes_no_memory(path: Path) -> None:
    whole, without = open_release(path), open_release(path, left_out=LEFT_OUT)
    table = output_table_bytes(whole.manifest)
    assert table == ITEM_COUNT * 8 * 4
    # The ends of the table are in blocks that have something else too.
    assert allocated_bytes(whole) - allocated_bytes(without) > table - 3 * 256 * 1024
    assert without.file(CANDIDATE_NETWORK_FILE).stat().st_size == (path / CANDIDATE_NETWORK_FILE).stat().st_size


def test_damage_in_the_table_is_found_all_the_same(path: Path, tmp_path: Path) -> None:
    copied = tmp_path / path.name
    copied.mkdir()
    for file in path.iterdir():
        (copied / file.name).write_bytes(file.read_bytes())
    content = bytearray((copied / CANDIDATE_NETWORK_FILE).read_bytes())
    content[-1_000_000] ^= 1
    (copied / CANDIDATE_NETWORK_FILE).write_bytes(content)
    with pytest.raises(ReleaseError, match="is damaged"):
        open_release(copied, left_out=LEFT_OUT)


@pytest.mark.parametrize("tensor", ["no such tensor", "__metadata__"])
def test_what_is_not_there_is_not_left_out(path: Path, tensor: str) -> None:
    kept = open_release(path, left_out={CANDIDATE_NETWORK_FILE: tensor})
    assert allocated_bytes(kept) == allocated_bytes(open_release(path))
