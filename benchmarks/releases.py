"""The releases of the presets, written once and kept below runs/."""

import platform
from pathlib import Path

import numpy as np
import torch

from benchmarks.presets import Preset, item_id
from benchmarks.synthetic import make_networks
from winnow.catalogue.attributes import Attributes
from winnow.catalogue.items import TITLE
from winnow.catalogue.schema import AttributeType
from winnow.catalogue.vocabulary import Vocabulary
from winnow.history import WatchHistories
from winnow.loadtest.histories import serialize
from winnow.release.manifest import CURRENT_FILE
from winnow.release.models.writer import ReleaseContents, write_release

# Separate histories for tuning the index and for measuring.
TUNING_HISTORIES, LOAD_HISTORIES = 500, 2_000
TUNING_SEED, LOAD_SEED = 1, 2


def titles(item_count: int) -> Attributes:
    """Return a title for each item."""
    values = {TITLE: [f"Title {row}" for row in range(item_count)]}
    return Attributes.from_values(values, {TITLE: AttributeType.TEXT}, item_count)


def ensure_release(preset: Preset, root: Path) -> Path:
    """Return the directory below `root` with the preset's release; write the release if it is missing."""
    directory = root / preset.name
    if not (directory / CURRENT_FILE).exists():
        write(preset, directory)
    return directory


def write(preset: Preset, directory: Path, attributes: Attributes | None = None) -> None:
    """Make the networks and write their release; without other attributes, items have titles."""
    networks = make_networks(preset)
    tuning = networks.catalogue.histories(TUNING_HISTORIES, preset.history_length, TUNING_SEED)
    load = networks.catalogue.histories(LOAD_HISTORIES, preset.history_length, LOAD_SEED)
    directory.mkdir(parents=True, exist_ok=True)
    np.savez(directory / "histories.npz", rows=load.rows, lengths=load.lengths)
    write_release(
        directory,
        ReleaseContents(
            vocabulary=Vocabulary([item_id(row) for row in range(preset.item_count)]),
            candidate_network=networks.candidate,
            ranking_network=networks.ranking,
            popularity=networks.catalogue.popularity,
            attributes=attributes or titles(preset.item_count),
            sample_histories=tuning.slice(0, 8),
            training={"synthetic": preset.name, "torch": torch.__version__, "python": platform.python_version()},
            figures={},
            tuning_histories=tuning,
        ),
    )


def load_histories(directory: Path) -> WatchHistories:
    """Return the histories that requests are made of; the index was not tuned on them."""
    arrays = np.load(directory / "histories.npz")
    return WatchHistories.from_lengths(arrays["rows"], arrays["lengths"])


def load_requests(directory: Path, answer_length: int) -> list[bytes]:
    """Return one serialized request per history."""
    histories = load_histories(directory)
    return serialize(
        [[item_id(row) for row in histories[user].tolist()] for user in range(len(histories))], answer_length
    )
