"""The search index of a release, over the vectors of its candidate network."""

from torch import Tensor

from winnow.index.exact import ExactIndex
from winnow.index.protocol import CandidateIndex
from winnow.release.manifest import INDEX_FILE
from winnow.release.reader import Release, ReleaseError


def load_index(release: Release, item_vectors_IH: Tensor) -> CandidateIndex:
    """Return the index that the release was tuned with; the vectors, on the CPU, are its candidate network's.

    Raises ReleaseError where the file is not an index of these vectors.
    """
    entry = release.manifest.index
    if entry.kind == "exact":
        return ExactIndex(item_vectors_IH)
    from winnow.index.approximate import ApproximateIndex  # faiss: only where it is used

    try:
        return ApproximateIndex.open(release.file(INDEX_FILE), item_vectors_IH, entry.probe_count)
    except ValueError as error:
        raise ReleaseError(f"release {release.release_id}: {error}") from error
