"""Writes what training produced as a release."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.numpy import save_file
from safetensors.torch import save_file as save_tensors

from winnow.catalogue.attribute_codes import NO_CODES, ItemCodes
from winnow.catalogue.attributes import Attributes
from winnow.catalogue.items import ItemCatalogue
from winnow.catalogue.title_index import indexed_titles
from winnow.catalogue.trending import TrendingItems
from winnow.catalogue.vocabulary import Vocabulary
from winnow.contexts import RequestContexts
from winnow.history import NO_ROWS, RaggedRows, Rows
from winnow.index.approximate import ApproximateIndex
from winnow.index.choose import TARGET_RECALL, Choice, choose_index
from winnow.networks.candidate import DeepCandidateGenerationModel
from winnow.networks.ranking import DeepRankingModel
from winnow.release import manifest as files
from winnow.release.manifest import ArithmeticEntry, IndexEntry
from winnow.release.models.arithmetic import compare_arithmetic
from winnow.release.models.golden_answers import golden_requests
from winnow.release.models.similarity_vectors import similarity_vectors
from winnow.release.publication import new_release, publish
from winnow.release.reader import check_popularity, popular_rows

NO_TRENDING = TrendingItems.none()


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
    codes: ItemCodes = NO_CODES
    """How the networks number the values of attributes, for items that come later."""
    training: Mapping[str, Any]
    """Settings, fingerprint of the data, seed, versions; JSON values."""
    figures: Mapping[str, Any]
    """Evaluation figures; JSON values."""
    tuning_histories: RaggedRows | None = None
    """A few hundred held-out histories, on which an approximate index is tuned; None takes the sample histories."""
    trending: TrendingItems = NO_TRENDING
    """Items that were watched more of late than usual."""
    target_recall: float = TARGET_RECALL
    """The recall@200 that an approximate index has to reach on them."""


def write_release(releases: Path, contents: ReleaseContents, *, make_current: bool = True) -> str:
    """Write a release below `releases`, point CURRENT at it unless told not to, and return its id.

    Raises OSError where the directory cannot be written, and ValueError where the contents are not valid; nothing is
    left behind then. What an earlier writer has left that was killed is removed.
    """
    with new_release(releases) as temporary:
        _write_files(temporary, contents)
        index, arithmetic = _write_index(temporary, contents)
        content = {
            "item_count": len(contents.vocabulary),
            "candidate_network": contents.candidate_network.config,
            "ranking_network": contents.ranking_network.config,
            "ranking_score": contents.ranking_network.score,
            "ranking_reads_contexts": contents.ranking_network.reads_contexts,
            "ranking_arithmetic": arithmetic,
            "index": index,
            "training": dict(contents.training),
            "figures": dict(contents.figures),
        }
        return publish(temporary, releases, content, {}, make_current=make_current)


def _write_files(directory: Path, contents: ReleaseContents) -> None:
    contents.vocabulary.save(directory / files.VOCABULARY_FILE)
    popularity = check_popularity(contents.popularity.astype(np.float32), len(contents.vocabulary))
    save_file({"popularity": popularity}, directory / files.POPULARITY_FILE)
    contents.trending.save(directory / files.TRENDING_FILE)
    contents.attributes.save(directory / files.ATTRIBUTES_FILE)
    write_titles(directory, contents.attributes, contents.vocabulary, popular_rows(popularity))
    if contents.codes:
        (directory / files.ITEM_CODES_FILE).write_bytes(contents.codes.dump())
    for network, name in (
        (contents.candidate_network, files.CANDIDATE_NETWORK_FILE),
        (contents.ranking_network, files.RANKING_NETWORK_FILE),
    ):
        weights = {key: value.detach().cpu().contiguous() for key, value in network.state_dict().items()}
        save_tensors(weights, directory / name)
    vectors = similarity_vectors(contents.candidate_network.item_vectors_IH)
    save_file({"vectors": vectors}, directory / files.SIMILARITY_FILE)
    golden_requests(
        contents.candidate_network.eval(),
        contents.ranking_network.eval(),
        contents.attributes,
        contents.sample_histories,
        contents.sample_contexts,
        NO_ROWS,
    ).save(directory / files.GOLDEN_FILE)


def write_titles(directory: Path, attributes: Attributes, vocabulary: Vocabulary, order: Rows) -> None:
    """Write the titles of some rows as they are searched, in this order."""
    items = ItemCatalogue(attributes, vocabulary)
    titles = [items.title(row) for row in range(len(vocabulary))]
    with (directory / files.TITLE_INDEX_FILE).open("wb") as title_index:
        title_index.writelines(indexed_titles(titles, order))


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
        rows_scored_for_each=choice.index.rows_scored_for_each,
        recall_at_200=choice.recall_at_200,
        tuned_on_query_count=choice.tuned_on_query_count,
    )
    return entry, arithmetic
