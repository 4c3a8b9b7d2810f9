"""The manifest: what a release holds, what its networks are, how it was trained and how good it is."""

from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from winnow.networks.options import Arithmetic, CandidateConfig, RankingConfig, Score

FORMAT_VERSION: Literal[1] = 1
MANIFEST_FILE = "manifest.json"
CURRENT_FILE = "CURRENT"
RELEASE_ID_PATTERN = r"^[0-9]{8}T[0-9]{6}Z-[0-9a-f]{12}$"

VOCABULARY_FILE = "vocabulary.safetensors"
POPULARITY_FILE = "popularity.safetensors"
TRENDING_FILE = "trending.safetensors"
ATTRIBUTES_FILE = "attributes.safetensors"
TITLE_INDEX_FILE = "title_index.bin"
CANDIDATE_NETWORK_FILE = "candidate_network.safetensors"
RANKING_NETWORK_FILE = "ranking_network.safetensors"
GOLDEN_FILE = "golden.safetensors"
SIMILARITY_FILE = "similarity.safetensors"
ITEM_CODES_FILE = "item_codes.json"
"""Only where the networks have learned from attributes: how they number the values."""
CANDIDATE_ADDED_FILE = "candidate_network_added.safetensors"
RANKING_ADDED_FILE = "ranking_network_added.safetensors"
"""Only where items were added after the training: their rows of the networks' tables."""
RETIRED_FILE = "retired.safetensors"
"""Only where items are retired."""
INDEX_FILE = "index.faiss"
"""Only where the index is approximate: an exact one needs nothing but the candidate network."""


class FileEntry(BaseModel):
    """One file of the release."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    size_bytes: Annotated[int, Field(ge=0)]
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class IndexEntry(BaseModel):
    """How candidates are found."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Literal["exact", "ivf"] = "exact"
    """A scan of all items, or of the lists in `index.faiss` that are nearest to the query."""
    list_count: Annotated[int, Field(ge=0)] = 0
    probe_count: Annotated[int, Field(ge=0)] = 0
    """How many of the lists one query scans."""
    rows_scored_for_each: Annotated[int, Field(ge=1)] = 1
    """How many rows of the lists are scored exactly for each that is returned."""
    recall_at_200: Annotated[float, Field(ge=0, le=1)] = 1.0
    """Share of the true best 200 that is found, measured on held-out histories when the release was made."""
    tuned_on_query_count: Annotated[int, Field(ge=0)] = 0


class ArithmeticEntry(BaseModel):
    """What arithmetic keeps the order of the ranking network, measured on held-out histories."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Arithmetic = "float32"
    """bfloat16 only where the two figures below are good enough: see winnow/release/models/arithmetic.py."""
    top_20_overlap: Annotated[float, Field(ge=0, le=1)] = 1.0
    """Share of the best 20 of 200 candidates in float32 that are among the best 20 in bfloat16, too."""
    ndcg_at_10_difference: Annotated[float, Field(ge=0, le=1)] = 0.0
    """How far the NDCG@10 of each history's last watch is from that in float32."""
    compared_on_query_count: Annotated[int, Field(ge=0)] = 0


class Manifest(BaseModel):
    """`manifest.json`. Unknown format versions, fields and options, and invalid ones, are refused when it is read."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    format_version: Literal[1]
    release_id: Annotated[str, Field(pattern=RELEASE_ID_PATTERN)]
    """When it was made, and the first digits of the hash over `files`: no two releases share an id."""
    created_at: datetime
    item_count: Annotated[int, Field(ge=1)]
    """Those that were added after the training and those that are retired are counted, too."""
    added_item_count: Annotated[int, Field(ge=0)] = 0
    """How many items, the last ones, were added after the training."""
    retired_item_count: Annotated[int, Field(ge=0)] = 0
    """How many items are never recommended any more."""
    derived_from: str | None = None
    """The release that this one was made from by `winnow items`."""
    candidate_network: CandidateConfig
    """What DeepCandidateGenerationModel is built from."""
    ranking_network: RankingConfig
    """What DeepRankingModel is built from."""
    ranking_score: Score
    """What the scores of the ranking network are."""
    ranking_reads_contexts: bool
    """Whether they depend on when a request is made and on what was shown before it: see RequestContexts."""
    ranking_arithmetic: ArithmeticEntry = ArithmeticEntry()
    index: IndexEntry = IndexEntry()
    training: dict[str, Any]
    """Settings, seed, fingerprint of the data, versions: everything needed to make this release again."""
    figures: dict[str, Any]
    """Evaluation figures, chosen on validation, reported on test."""
    files: dict[str, FileEntry]

    @property
    def history_length(self) -> int | None:
        """How many of the latest watches either network reads; None is all of them."""
        lengths = (self.candidate_network.history_length, self.ranking_network.history_length)
        return None if None in lengths else max(length for length in lengths if length is not None)
