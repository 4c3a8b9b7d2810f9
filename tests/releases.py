"""Small releases for tests: random networks over a catalogue whose ids show what ids may look like."""

import json
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import torch

from winnow.catalogue.attribute_codes import NO_CODES, AttributeCodes, ItemCodes
from winnow.catalogue.attributes import Attributes
from winnow.catalogue.schema import AttributeType
from winnow.catalogue.trending import TrendingItems
from winnow.catalogue.vocabulary import Vocabulary
from winnow.history import RaggedRows
from winnow.networks.candidate import DeepCandidateGenerationModel
from winnow.networks.neighbours import Neighbours
from winnow.networks.options import AttributeShape, CandidateOptions, HistoryOptions, NeighbourOptions, RankingOptions
from winnow.networks.ranking import DeepRankingModel
from winnow.release.models.writer import ReleaseContents, write_release
from winnow.release.reader import describe_file, digest_of_files

ITEM_COUNT = 300
GENRES = ("Comedy", "Drama", "Science Fiction")
FIRST_YEAR, YEARS = 1990, 30
ATTRIBUTE_TYPES = {
    "title": AttributeType.TEXT,
    "year": AttributeType.NUMBER,
    "genres": AttributeType.LIST,
    "country": AttributeType.TEXT,
    "added": AttributeType.TIMESTAMP,
    "adult": AttributeType.BOOLEAN,
}
PLAIN_HISTORY = HistoryOptions()
PLAIN_RANKING = RankingOptions()


def item_id(row: int) -> str:
    """Ids of any form: spaces, quotes, other scripts."""
    return ["item-{}", "The Item, Part {} (1995)", "映画{}", "{}"][row % 4].format(row)


def attributes_of(item_count: int) -> Attributes:
    """One attribute of each type; some items lack each of them, but for title and year."""
    rows = range(item_count)
    values: dict[str, list[object]] = {
        "title": [f"Title {row}" for row in rows],
        "year": [FIRST_YEAR + row % YEARS for row in rows],
        "genres": [[genre for number, genre in enumerate(GENRES) if row % (number + 2) == 0] for row in rows],
        "country": [None if row % 7 == 0 else ["DE", "FR", "Côte d'Ivoire"][row % 3] for row in rows],
        "added": [None if row % 5 == 0 else datetime(2020, 1, 1, tzinfo=UTC) + timedelta(days=row) for row in rows],
        "adult": [None if row % 11 == 0 else row % 4 == 0 for row in rows],
    }
    return Attributes.from_values(values, ATTRIBUTE_TYPES, item_count)


def new_item_codes(attributes: Attributes) -> ItemCodes:
    """What the vectors of new items follow from."""
    return ItemCodes(parts=tuple(AttributeCodes.fit(name, attributes[name]) for name in ("genres", "year", "country")))


def trending_items(item_count: int) -> TrendingItems:
    """Every 13th item from the least popular one on."""
    rows = np.arange(item_count - 1, 0, -13, dtype=np.int32)
    return TrendingItems(rows=rows, ratios=np.linspace(4, 1.5, len(rows), dtype=np.float32))


def write_random_release(
    releases: Path,
    seed: int = 0,
    item_count: int = ITEM_COUNT,
    *,
    history: HistoryOptions = PLAIN_HISTORY,
    ranking: RankingOptions = PLAIN_RANKING,
    with_attributes: bool = True,
    takes_new_items: bool = False,
    neighbours: tuple[NeighbourOptions, ...] = (),
) -> str:
    """Write a release of untrained networks and return its id. Row 0 is the most popular item.

    `history` is how both networks read histories; `ranking` are the ranking network's other options. If it
    `takes_new_items`, the candidate network has attribute parts. `neighbours` are the tables of the candidate network.
    """
    rng = np.random.default_rng(seed)
    attributes = attributes_of(item_count) if with_attributes else Attributes({}, item_count)
    codes = new_item_codes(attributes) if takes_new_items else NO_CODES
    shapes = tuple(AttributeShape(value_count=code.value_count, values_per_item=1) for code in codes.parts)
    options = CandidateOptions(history=history, parts=shapes, neighbours=neighbours)
    candidate_network = DeepCandidateGenerationModel(item_count, 12, 8, 2, seed, options)
    ranking_network = DeepRankingModel(item_count, 12, 8, 2, seed + 1, replace(ranking, history=history))
    for network in (candidate_network, ranking_network):
        for name, weights in network.named_parameters():
            if "code_" in name or name.startswith("parts."):  # what begins as zeros or ones would show no mistake
                torch.nn.init.normal_(weights, generator=torch.Generator().manual_seed(seed))
    for table in candidate_network.neighbours.tables:
        fill_randomly(table, rng)
    return write_release(
        releases,
        ReleaseContents(
            vocabulary=Vocabulary([item_id(row) for row in range(item_count)]),
            candidate_network=candidate_network,
            ranking_network=ranking_network,
            popularity=np.linspace(0.01, 0.001, item_count, dtype=np.float32),
            attributes=attributes,
            codes=codes,
            trending=trending_items(item_count),
            sample_histories=RaggedRows.from_lists([rng.integers(0, item_count, 7).tolist() for _ in range(4)]),
            training={"seed": seed},
            figures={"test": {"chain": {"hr_at_10": 0.0}}},
        ),
    )


def fill_randomly(table: Neighbours, rng: np.random.Generator) -> None:
    """Fill a table with neighbours, of which a third have the value 0."""
    shape = tuple(table.rows.shape)
    rows = np.stack([rng.permutation(table.n_items)[: shape[1]] for _ in range(shape[0])])
    values = np.where(rng.random(shape) < 1 / 3, 0, rng.random(shape))
    table.fill(torch.from_numpy(rows), torch.from_numpy(values), weight=float(rng.uniform(0.05, 0.5)))


def reseal(release: Path, change: Callable[[dict[str, Any]], None] = lambda _manifest: None) -> Path:
    """Change the manifest and make hashes and id right again: damage that only loading can find."""
    manifest = json.loads((release / "manifest.json").read_text())
    change(manifest)
    files = {path.name: describe_file(path) for path in release.iterdir() if path.name != "manifest.json"}
    manifest["files"] = {name: entry.model_dump() for name, entry in files.items()}
    manifest["release_id"] = f"{release.name[:17]}{digest_of_files(files)}"
    (release / "manifest.json").write_text(json.dumps(manifest))
    return release.rename(release.parent / manifest["release_id"])
