"""Writes a release into a temporary directory and renames it into place, so no reader ever sees half of one."""

import fcntl
import json
import os
import shutil
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import save_file
from safetensors.torch import save_file as save_tensors

from winnow.catalogue.attributes import Attributes
from winnow.catalogue.filters.compiler import compile_canonical
from winnow.catalogue.items import ItemCatalogue
from winnow.catalogue.title_index import indexed_titles
from winnow.catalogue.vocabulary import Vocabulary
from winnow.contexts import RequestContexts
from winnow.history import RaggedRows, WatchHistories
from winnow.index.approximate import ApproximateIndex
from winnow.index.choose import TARGET_RECALL, Choice, choose_index
from winnow.index.exact import ExactIndex
from winnow.networks.candidate import DeepCandidateGenerationModel
from winnow.networks.packed import pack
from winnow.networks.ranking import DeepRankingModel
from winnow.queries import RetrievalQuery
from winnow.release import manifest as files
from winnow.release.golden import GoldenRequests
from winnow.release.golden_filters import golden_filters
from winnow.release.manifest import FORMAT_VERSION, MANIFEST_FILE, ArithmeticEntry, IndexEntry, Manifest
from winnow.release.models.arithmetic import compare_arithmetic
from winnow.release.reader import check_popularity, describe_file, digest_of_files, popular_rows

# Enough to notice a broken tower or table, few enough to be checked in milliseconds.
GOLDEN_CANDIDATES = 50

WRITING_PREFIX = ".writing-"
POINTER_PREFIX = ".current-"
# What has been changed since is left alone: some file systems know no locks between machines.
LEFTOVER_SECONDS = 6 * 3600.0


@dataclass(frozen=True, kw_only=True, eq=False)
class ReleaseContents:
    """What training produced. I items; row r of everything belongs to item r of the vocabulary."""

    vocabulary: Vocabulary
    candidate_network: DeepCandidateGenerationModel
    ranking_network: DeepRankingModel
    popularity: NDArray[np.float32]
    """[I], each item's share of all watches."""
    attributes: Attributes
    """Titles and what else is known of the items."""
    sample_histories: RaggedRows
    """A few real histories for the golden requests."""
    sample_contexts: RequestContexts | None = None
    """What else the callers of these requests know; None is nothing."""
    training: Mapping[str, Any]
    """Settings, fingerprint of the data, seed, versions; JSON values."""
    figures: Mapping[str, Any]
    """Evaluation figures; JSON values."""
    tuning_histories: RaggedRows | None = None
    """A few hundred held-out histories, on which an approximate index is tuned; None takes the sample histories."""
    target_recall: float = TARGET_RECALL
    """The recall@200 that an approximate index has to reach on them."""


def write_release(releases: Path, contents: ReleaseContents, *, make_current: bool = True) -> str:
    """Write a release below `releases`, point CURRENT at it unless told not to, and return its id.

    Raises OSError where the directory cannot be written, and ValueError where the contents are not valid; nothing is
    left behind then. What an earlier writer has left that was killed is removed.
    """
    releases.mkdir(parents=True, exist_ok=True)
    _remove_leftovers(releases)
    with _one_kind_of_error(releases), _temporary_directory(releases) as temporary:
        _write_files(temporary, contents)
        index, arithmetic = _write_index(temporary, contents)
        entries = {path.name: describe_file(path) for path in sorted(temporary.iterdir())}
        created_at = datetime.now(UTC).replace(microsecond=0)
        release_id = f"{created_at:%Y%m%dT%H%M%SZ}-{digest_of_files(entries)}"
        manifest = Manifest(
            format_version=FORMAT_VERSION,
            release_id=release_id,
            created_at=created_at,
            item_count=len(contents.vocabulary),
            candidate_network=contents.candidate_network.config,
            ranking_network=contents.ranking_network.config,
            ranking_score=contents.ranking_network.score,
            ranking_reads_contexts=contents.ranking_network.reads_contexts,
            ranking_arithmetic=arithmetic,
            index=index,
            training=dict(contents.training),
            figures=dict(contents.figures),
            files=entries,
        )
        (temporary / MANIFEST_FILE).write_text(json.dumps(manifest.model_dump(mode="json"), indent=1) + "\n")
        for path in temporary.iterdir():
            path.chmod(0o644)
            _flush_to_disk(path)
        temporary.chmod(0o755)
        with _pointer(releases, release_id) as pointer:
            # Where there is one of this id, it has the same files.
            if not (releases / release_id).exists():
                temporary.rename(releases / release_id)
            if make_current:
                pointer.replace(releases / files.CURRENT_FILE)
            _flush_to_disk(releases)
    return release_id


def point_current_at(releases: Path, release_id: str) -> None:
    """Replace the CURRENT pointer atomically."""
    with _pointer(releases, release_id) as pointer:
        pointer.replace(releases / files.CURRENT_FILE)
        _flush_to_disk(releases)


@contextmanager
def _pointer(releases: Path, release_id: str) -> Iterator[Path]:
    """Yield a file that can take the place of CURRENT; where it does not, it is removed."""
    descriptor, name = tempfile.mkstemp(prefix=POINTER_PREFIX, dir=releases)
    pointer = Path(name)
    try:
        with os.fdopen(descriptor, "w") as file:
            file.write(release_id + "\n")
        pointer.chmod(0o644)
        _flush_to_disk(pointer)
        yield pointer
    finally:
        pointer.unlink(missing_ok=True)


@contextmanager
def _temporary_directory(releases: Path) -> Iterator[Path]:
    """Yield a directory that is locked while it is written; what has not been renamed in the end is removed."""
    directory = Path(tempfile.mkdtemp(prefix=WRITING_PREFIX, dir=releases))
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        with suppress(OSError):  # where there are no locks
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield directory
    finally:
        os.close(descriptor)
        shutil.rmtree(directory, ignore_errors=True)


def _remove_leftovers(releases: Path) -> None:
    """Remove what writers have left that were killed: what nobody holds a lock on, and nobody has changed of late."""
    youngest = time.time() - LEFTOVER_SECONDS
    for path in [*releases.glob(f"{WRITING_PREFIX}*"), *releases.glob(f"{POINTER_PREFIX}*")]:
        # Another writer may be removing it too.
        with suppress(OSError):
            if max(found.stat().st_mtime for found in (path, *path.glob("*"))) > youngest or _is_locked(path):
                continue
            if path.is_dir():
                shutil.rmtree(path, ignore_errors=True)
            else:
                path.unlink()


def _is_locked(path: Path) -> bool:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False


@contextmanager
def _one_kind_of_error(releases: Path) -> Iterator[None]:
    """Make an OSError that names the directory of what the libraries raise where the disk is full."""
    try:
        yield
    except SafetensorError as error:
        raise OSError(f"{releases} cannot be written: {error}") from error
    except OSError as error:
        if error.errno is None:
            raise
        raise OSError(error.errno, error.strerror, str(releases)) from error


def _write_files(directory: Path, contents: ReleaseContents) -> None:
    contents.vocabulary.save(directory / files.VOCABULARY_FILE)
    popularity = check_popularity(contents.popularity.astype(np.float32), len(contents.vocabulary))
    save_file({"popularity": popularity}, directory / files.POPULARITY_FILE)
    contents.attributes.save(directory / files.ATTRIBUTES_FILE)
    items = ItemCatalogue(contents.attributes, contents.vocabulary)
    titles = [items.title(row) for row in range(len(contents.vocabulary))]
    with (directory / files.TITLE_INDEX_FILE).open("wb") as title_index:
        title_index.writelines(indexed_titles(titles, popular_rows(popularity)))
    for network, name in (
        (contents.candidate_network, files.CANDIDATE_NETWORK_FILE),
        (contents.ranking_network, files.RANKING_NETWORK_FILE),
    ):
        weights = {key: value.detach().cpu().contiguous() for key, value in network.state_dict().items()}
        save_tensors(weights, directory / name)
    _golden_requests(contents).save(directory / files.GOLDEN_FILE)


@torch.inference_mode()
def _write_index(directory: Path, contents: ReleaseContents) -> tuple[IndexEntry, ArithmeticEntry]:
    """Choose and tune the index; write it, unless the network's vectors are all there is to it.

    The arithmetic of the ranking network is compared on what this index finds for the same histories.
    """
    network = contents.candidate_network.eval()
    histories = contents.tuning_histories if contents.tuning_histories is not None else contents.sample_histories
    user_BH = network.user_vectors(network.pack(histories))
    choice: Choice = choose_index(network.item_vectors_IH, user_BH, contents.target_recall)
    arithmetic = compare_arithmetic(network, contents.ranking_network.eval(), choice.index, histories)
    if not isinstance(choice.index, ApproximateIndex):
        return IndexEntry(), arithmetic
    choice.index.save(directory / files.INDEX_FILE)
    entry = IndexEntry(
        kind="ivf",
        list_count=choice.index.list_count,
        probe_count=choice.index.probe_count,
        recall_at_200=choice.recall_at_200,
        tuned_on_query_count=choice.tuned_on_query_count,
    )
    return entry, arithmetic


@torch.inference_mode()
def _golden_requests(contents: ReleaseContents) -> GoldenRequests:
    """Answer the sample histories with the plain networks, without the watched items, as in serving."""
    candidate, ranking = contents.candidate_network.eval(), contents.ranking_network.eval()
    histories = WatchHistories.of(contents.sample_histories)
    contexts = contents.sample_contexts or RequestContexts.unknown(len(histories))
    user_BH = candidate.user_vectors(candidate.pack(histories))
    counts = np.full(len(histories), GOLDEN_CANDIDATES, dtype=np.int32)
    query = RetrievalQuery(histories=histories, counts=counts, exclusions=histories)
    index = ExactIndex(candidate.item_vectors_IH)
    retrieved = index.search(user_BH, query)
    filters = golden_filters(contents.attributes)
    # The one that says most about retrieval: it leaves out about half of the items.
    half = len(contents.vocabulary) / 2
    by_share = sorted(filters, key=lambda golden: abs(golden.match_count - half))
    chosen = by_share[0].canonical if by_share else ""
    filtered = index.search_selected(user_BH, query, index.select(compile_canonical(chosen, contents.attributes)))
    candidates = pack(retrieved.rows, user_BH.device)
    return GoldenRequests(
        histories=histories,
        candidates=retrieved.rows,
        candidate_scores=retrieved.scores,
        contexts=contexts,
        filters=filters,
        filter=chosen,
        filtered_candidates=filtered.rows,
        filtered_scores=filtered.scores,
        ranking_scores=ranking.scores(ranking.logits(ranking.pack(histories, contexts), candidates)).cpu().numpy(),
    )


def _flush_to_disk(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
