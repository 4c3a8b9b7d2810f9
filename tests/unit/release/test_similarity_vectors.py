"""Short vectors keep how alike items are, whatever the item vectors look like."""

from pathlib import Path

import numpy as np
import pytest
import torch

from tests.releases import ITEM_COUNT, reseal, write_random_release
from winnow.release.models.similarity_vectors import SCALE, similarity_vectors
from winnow.release.reader import ReleaseError, open_release


def cosines(vectors: np.ndarray) -> np.ndarray:
    unit = vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-9)
    found: np.ndarray = unit @ unit.T
    return found


def test_products_are_the_cosines_of_the_directions_from_the_mean() -> None:
    vectors = torch.randn(500, 16, generator=torch.Generator().manual_seed(1)) + 3
    short = similarity_vectors(vectors, components=16)
    assert short.dtype == np.int8
    assert short.shape == (500, 16)
    expected = cosines((vectors - vectors.mean(dim=0)).numpy())
    assert np.abs(cosines(short.astype(np.float64)) - expected).max() < 0.02


def test_the_largest_components_are_kept() -> None:
    generator = torch.Generator().manual_seed(1)
    large, small = torch.randn(500, 4, generator=generator), 0.01 * torch.randn(500, 60, generator=generator)
    vectors = torch.cat([large, small], dim=1) @ torch.linalg.qr(torch.randn(64, 64, generator=generator)).Q
    short = similarity_vectors(vectors, components=4)
    assert np.abs(cosines(short.astype(np.float64)) - cosines(vectors.numpy())).max() < 0.2


@pytest.mark.parametrize("vectors", [torch.zeros(5, 8), torch.ones(1, 8), torch.full((70_000, 2), -3.5)])
def test_items_that_do_not_differ_have_no_direction(vectors: torch.Tensor) -> None:
    assert not similarity_vectors(vectors).any()


def test_a_release_has_them(tmp_path: Path) -> None:
    vectors = open_release(tmp_path / write_random_release(tmp_path)).similarity_vectors()
    assert vectors.dtype == np.int8
    assert vectors.shape == (ITEM_COUNT, 8)
    assert np.linalg.norm(vectors.astype(float), axis=1) == pytest.approx(SCALE, rel=0.02)


@pytest.mark.parametrize(
    "arrays", [{"vectors": np.zeros((3, 8), np.int8)}, {"vectors": np.zeros((300, 8), np.int64)}, {"v": np.zeros(3)}]
)
def test_what_is_not_that_is_refused(tmp_path: Path, arrays: dict[str, np.ndarray]) -> None:
    from safetensors.numpy import save_file

    release = tmp_path / write_random_release(tmp_path)
    save_file(arrays, release / "similarity.safetensors")
    with pytest.raises(ReleaseError, match=r"similarity\.safetensors"):
        open_release(reseal(release)).similarity_vectors()
