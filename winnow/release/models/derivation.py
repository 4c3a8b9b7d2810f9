"""Makes a release from a release: other attributes, retired items, new items. The networks are not trained.

Files that do not change are hard links to those of the earlier release. New items' rows of the networks' tables are a
small file beside them, which holds the rows of all items that were added since the training.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from safetensors.numpy import save_file
from safetensors.torch import save_file as save_tensors
from torch import Tensor, nn

from winnow.catalogue.items import TITLE
from winnow.catalogue.vocabulary import Vocabulary
from winnow.contexts import RequestContexts
from winnow.history import RaggedRows, Rows, WatchHistories
from winnow.logs.item_changes import ItemChanges
from winnow.networks.candidate import DeepCandidateGenerationModel
from winnow.networks.options import CandidateConfig, RankingConfig
from winnow.networks.ranking import DeepRankingModel
from winnow.release import manifest as files
from winnow.release.golden import GoldenRequests
from winnow.release.models.added_items import candidate_rows, ranking_rows
from winnow.release.models.golden_answers import golden_requests
from winnow.release.models.loader import build_network, load_candidate_network, load_ranking_network, with_rows
from winnow.release.models.similarity_vectors import similarity_vectors
from winnow.release.models.writer import write_titles
from winnow.release.publication import link, new_release, publish
from winnow.release.reader import Release, current_release_id, popular_rows

Config = TypeVar("Config", CandidateConfig, RankingConfig)

CPU = torch.device("cpu")
# Added items in the history of the golden request that is about them.
GOLDEN_ADDED_ITEMS = 8


@dataclass(frozen=True, kw_only=True)
class DerivedRelease:
    """What was made."""

    release_id: str
    new_item_count: int
    changed_item_count: int
    retired_item_count: int
    """All that are retired in the new release, those of earlier releases included."""
    written_bytes: int
    """In files that are not links to those of the earlier release."""


def derive_release(
    base: Release,
    changes: ItemChanges,
    *,
    retire: Sequence[str],
    restore: Sequence[str],
    make_current: bool,
    while_base_is_current: bool = False,
) -> DerivedRelease:
    """Write a release beside `base`, all of whose files are verified, and point CURRENT at it if told so.

    Items to `retire` are never recommended any more, those to `restore` are again; retired ones keep their rows, so
    that histories with them are read as before. Raises ValueError where the changes do not fit the release, or where
    it was to be made current only `while_base_is_current` and that is no longer so, and OSError where its directory
    cannot be written; nothing is left behind then.
    """
    derivation = _Derivation(base, changes, retire, restore)
    return derivation.write(make_current=make_current, while_base_is_current=while_base_is_current)


class _Derivation:
    def __init__(self, base: Release, changes: ItemChanges, retire: Sequence[str], restore: Sequence[str]) -> None:
        self._base = base
        self._changes = changes
        manifest = base.manifest
        self._trained_count = manifest.item_count - manifest.added_item_count
        self._item_count = manifest.item_count + len(changes.new_item_ids)
        known = base.vocabulary()
        self._retired = self._now_retired(known, retire, restore)
        self._vocabulary = known
        if changes.new_item_ids:
            self._vocabulary = Vocabulary([*known.item_ids(range(len(known))), *changes.new_item_ids])
        self._popularity = np.zeros(self._item_count, dtype=np.float32)
        self._popularity[: manifest.item_count] = base.popularity()
        self._attributes = base.attributes()
        if len(changes.rows):
            self._attributes = self._attributes.replaced(self._item_count, changes.rows, changes.attributes)

    def write(self, *, make_current: bool, while_base_is_current: bool) -> DerivedRelease:
        """Write all files and the manifest, and publish the release."""
        base, releases = self._base, self._base.path.parent
        with new_release(releases) as temporary:
            candidate, ranking = self._networks(temporary)
            self._write_catalogue(temporary)
            self._golden(candidate, ranking).save(temporary / files.GOLDEN_FILE)
            linked = self._link_the_rest(temporary)
            written = sum(path.stat().st_size for path in temporary.iterdir() if path.name not in linked)
            if make_current and while_base_is_current and current_release_id(releases) != base.release_id:
                raise ValueError(
                    f"{releases}: {current_release_id(releases)} has become current in the meantime: try again"
                )
            release_id = publish(
                temporary,
                releases,
                self._manifest(candidate.config, ranking.config),
                {name: base.manifest.files[name] for name in linked},
                make_current=make_current,
            )
        return DerivedRelease(
            release_id=release_id,
            new_item_count=len(self._changes.new_item_ids),
            changed_item_count=len(self._changes.rows) - len(self._changes.new_item_ids),
            retired_item_count=len(self._retired),
            written_bytes=written,
        )

    def _now_retired(self, known: Vocabulary, retire: Sequence[str], restore: Sequence[str]) -> Rows:
        for item_id in (*retire, *restore):
            if item_id not in known:
                raise ValueError(f"item {item_id[:80]!r} is not in release {self._base.release_id}")
        both = sorted(set(retire) & set(restore))
        if both:
            raise ValueError(f"item {both[0][:80]!r} is to be retired and restored at once")
        retired = np.union1d(self._base.retired(), known.rows(retire)[0])
        retired = np.setdiff1d(retired, known.rows(restore)[0]).astype(np.int32)
        if len(retired) == self._item_count:
            raise ValueError("all items would be retired: nothing would be left to recommend")
        return retired

    @property
    def _added_changed(self) -> bool:
        """Whether any item that was added after the training is new or has other attributes."""
        return bool((self._changes.rows >= self._trained_count).any())

    def _networks(self, directory: Path) -> tuple[DeepCandidateGenerationModel, DeepRankingModel]:
        """Return the networks of the new release, and write what is new in their tables and in the index."""
        candidate, ranking = load_candidate_network(self._base, CPU), load_ranking_network(self._base, CPU)
        if not self._added_changed:
            return candidate, ranking
        rows = np.arange(self._trained_count, self._item_count)
        of_candidate = candidate_rows(candidate, self._base.item_codes(), self._attributes, rows)
        of_ranking = ranking_rows(ranking, of_candidate, self._attributes, rows, self._trained_count)
        _save(of_candidate, directory / files.CANDIDATE_ADDED_FILE)
        _save(of_ranking, directory / files.RANKING_ADDED_FILE)
        new_candidate = build_network(
            DeepCandidateGenerationModel.from_config,
            _with_item_count(candidate.config, self._item_count),
            self._extended(candidate, of_candidate),
        )
        save_file({"vectors": similarity_vectors(new_candidate.item_vectors_IH)}, directory / files.SIMILARITY_FILE)
        new_ranking = build_network(
            DeepRankingModel.from_config,
            _with_item_count(ranking.config, self._item_count),
            self._extended(ranking, of_ranking),
        )
        if self._base.manifest.index.kind == "ivf":
            self._update_index(directory, new_candidate.item_vectors_IH)
        return new_candidate, new_ranking

    def _extended(self, network: nn.Module, added: dict[str, Tensor]) -> dict[str, Tensor]:
        """The weights with the rows of the training in each table, and then those that are added."""
        earlier = self._base.manifest.added_item_count
        weights = network.state_dict()
        trained = {
            name: tensor[: len(tensor) - earlier] if name in added else tensor for name, tensor in weights.items()
        }
        return with_rows(trained, added)

    def _update_index(self, directory: Path, item_vectors_IH: Tensor) -> None:
        from winnow.index.approximate import ApproximateIndex  # faiss: only where it is used

        rows = np.sort(self._changes.rows[self._changes.rows >= self._trained_count])
        vectors_NH = item_vectors_IH[torch.from_numpy(rows)]
        ApproximateIndex.update(self._base.file(files.INDEX_FILE), directory / files.INDEX_FILE, rows, vectors_NH)

    def _write_catalogue(self, directory: Path) -> None:
        new_items, changes = bool(self._changes.new_item_ids), self._changes
        if new_items:
            self._vocabulary.save(directory / files.VOCABULARY_FILE)
            save_file({"popularity": self._popularity}, directory / files.POPULARITY_FILE)
        if len(changes.rows):
            self._attributes.save(directory / files.ATTRIBUTES_FILE)
        retirement_changed = not np.array_equal(self._retired, self._base.retired())
        if retirement_changed and len(self._retired):
            save_file({"rows": self._retired}, directory / files.RETIRED_FILE)
        if new_items or retirement_changed or TITLE in changes.attributes:
            order = popular_rows(self._popularity, self._retired)
            write_titles(directory, self._attributes, self._vocabulary, order)

    def _golden(self, candidate: DeepCandidateGenerationModel, ranking: DeepRankingModel) -> GoldenRequests:
        """The earlier release's requests with the new answers, and one with a history of added items."""
        histories, contexts = _requests_without(self._base.golden_requests(), self._trained_count)
        added_count = self._item_count - self._trained_count
        if added_count:
            spread = np.linspace(0, added_count - 1, min(added_count, GOLDEN_ADDED_ITEMS)).astype(np.int32)
            added = RaggedRows.from_lists([self._trained_count + spread])
            histories = WatchHistories.concatenate([histories, added])
            contexts = RequestContexts.concatenate([contexts, RequestContexts.unknown(1)])
        return golden_requests(candidate, ranking, self._attributes, histories, contexts, self._retired)

    def _link_the_rest(self, directory: Path) -> list[str]:
        """Link the files that were not written, and return their names."""
        unused = set() if len(self._retired) else {files.RETIRED_FILE}
        linked = [name for name in self._base.manifest.files if not (directory / name).exists() and name not in unused]
        for name in linked:
            link(self._base.path / name, directory / name)
        return linked

    def _manifest(self, candidate: CandidateConfig, ranking: RankingConfig) -> dict[str, Any]:
        base = self._base.manifest
        kept = ("ranking_score", "ranking_reads_contexts", "ranking_arithmetic", "index", "training", "figures")
        return {name: getattr(base, name) for name in kept} | {
            "item_count": self._item_count,
            "added_item_count": self._item_count - self._trained_count,
            "retired_item_count": len(self._retired),
            "derived_from": base.release_id,
            "candidate_network": candidate,
            "ranking_network": ranking,
        }


def _requests_without(golden: GoldenRequests, trained_count: int) -> tuple[WatchHistories, RequestContexts]:
    """The requests of the training, without those that an earlier derivation has added."""
    histories, unclicked = golden.histories, golden.contexts.unclicked
    kept = np.array([n for n in range(len(histories)) if (histories[n] < trained_count).all()], dtype=np.int64)
    return histories.take(histories.offsets[kept], histories.lengths[kept]), RequestContexts(
        golden.contexts.times[kept], unclicked.take(unclicked.offsets[kept], unclicked.lengths[kept])
    )


def _with_item_count(config: Config, item_count: int) -> Config:
    if isinstance(config, RankingConfig) and config.options.matching is not None:
        matching = config.options.matching
        inner = replace(matching, network=_with_item_count(matching.network, item_count))
        return replace(config, n_items=item_count, options=replace(config.options, matching=inner))
    return replace(config, n_items=item_count)


def _save(tensors: dict[str, Tensor], path: Path) -> None:
    save_tensors({name: tensor.detach().contiguous() for name, tensor in tensors.items()}, path)
