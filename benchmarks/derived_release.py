"""What it takes to change a thousand of a million items: time, disk, and that of a second derivation.

    python -m benchmarks.derived_release --output runs/derived_release.json

Makes up a release of a million items with ten attributes, an approximate index and networks of 64 dimensions, which
takes some minutes and 4 GB, and changes it as `winnow items` does. `--items` makes it smaller.
"""

import argparse
import json
import shutil
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch

from benchmarks.filters import TYPES, values_of
from benchmarks.machine import describe_machine
from benchmarks.presets import SMALL, Preset, item_id
from benchmarks.synthetic import make_networks
from winnow.catalogue.attribute_codes import AttributeCodes, ItemCodes
from winnow.catalogue.attributes import Attributes
from winnow.catalogue.items import TITLE
from winnow.catalogue.schema import AttributeType
from winnow.catalogue.vocabulary import Vocabulary
from winnow.logs.item_changes import no_changes, read_item_changes
from winnow.networks.candidate import DeepCandidateGenerationModel
from winnow.networks.options import AttributeShape, CandidateOptions
from winnow.release.models.derivation import derive_release
from winnow.release.models.writer import ReleaseContents, write_release
from winnow.release.reader import open_release

PARTS = ("category", "genres", "year")
CHANGED, NEW, RETIRED = 900, 50, 50
FIRST_CHANGED = 2_000


def write_base(releases: Path, preset: Preset) -> str:
    """Write the release of all items."""
    networks = make_networks(preset)
    count = preset.item_count
    values = values_of(count) | {TITLE: [f"Title {row}" for row in range(count)]}
    attributes = Attributes.from_values(values, {TITLE: AttributeType.TEXT} | TYPES, count)
    codes = ItemCodes(parts=tuple(AttributeCodes.fit(name, attributes[name]) for name in PARTS))
    shapes = tuple(AttributeShape(value_count=code.value_count, values_per_item=1) for code in codes.parts)
    config = replace(networks.candidate.config, options=CandidateOptions(parts=shapes))
    candidate = DeepCandidateGenerationModel.from_config(config)
    parts = {name: torch.randn_like(tensor) for name, tensor in candidate.state_dict().items() if "parts" in name}
    candidate.load_state_dict(networks.candidate.state_dict() | parts)
    tuning = networks.catalogue.histories(200, preset.history_length, seed=1)
    return write_release(
        releases,
        ReleaseContents(
            vocabulary=Vocabulary([item_id(row) for row in range(count)]),
            candidate_network=candidate,
            ranking_network=networks.ranking,
            popularity=networks.catalogue.popularity,
            attributes=attributes,
            codes=codes,
            sample_histories=tuning.slice(0, 16),
            training={"synthetic": preset.name},
            figures={},
            tuning_histories=tuning,
        ),
    )


def write_changes(path: Path, item_count: int, seed: int, names: Sequence[str]) -> None:
    """Write an items file: other values of some items, none of the first ones, and new items."""
    rows = FIRST_CHANGED + np.random.default_rng(seed).permutation(item_count - FIRST_CHANGED)[:CHANGED]
    values = values_of(CHANGED + NEW)
    ids = [item_id(row) for row in rows.tolist()] + [f"new {seed} {number}" for number in range(NEW)]
    columns = {name: column if isinstance(column := values[name], np.ndarray) else list(column) for name in names}
    pl.DataFrame({"item_id": ids, TITLE: [f"Changed {id_}" for id_ in ids], **columns}).write_parquet(path)


def change(releases: Path, release_id: str, file: Path | None, retired: list[str]) -> tuple[str, dict[str, Any]]:
    """Derive as the command does, everything included from opening the release on."""
    started = time.monotonic(), time.process_time()
    base = open_release(releases / release_id)
    changes = no_changes()
    if file is not None:
        changes = read_item_changes(
            file, base.vocabulary(), base.attributes().schema, retiring=retired, takes_new_items=True
        )
    made = derive_release(base, changes, retire=retired, restore=[], make_current=True)
    seconds, cpu_seconds = time.monotonic() - started[0], time.process_time() - started[1]
    directory = releases / made.release_id
    written = {path.name: path.stat().st_size for path in directory.iterdir() if path.stat().st_nlink == 1}
    return made.release_id, {
        "seconds": round(seconds, 1),
        "cpu_seconds": round(cpu_seconds, 1),
        "changed": made.changed_item_count,
        "new": made.new_item_count,
        "retired": made.retired_item_count,
        "mebibytes_of_the_release": _mebibytes(sum(path.stat().st_size for path in directory.iterdir())),
        "mebibytes_written": _mebibytes(sum(written.values())),
        "written": {name: _mebibytes(size) for name, size in sorted(written.items())},
    }


def _mebibytes(size: int) -> float:
    return round(size / 2**20, 2)


def main() -> None:
    """Make the release, derive from it, derive from what was derived, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--items", type=int, default=1_000_000)
    parser.add_argument("--output", type=Path, default=Path("runs/derived_release.json"))
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    preset = replace(SMALL, name="derived", item_count=options.items, taste_count=max(40, options.items // 500))
    options.output.parent.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(dir=options.output.parent))
    try:
        releases, file = folder / "releases", folder / "changed.parquet"
        started = time.monotonic()
        release_id = write_base(releases, preset)
        results: dict[str, Any] = {
            "item_count": options.items,
            "write_seconds": round(time.monotonic() - started, 1),
            "machine": describe_machine(),
        }
        retired = [[item_id(row) for row in range(start, start + RETIRED)] for start in (0, 1000)]
        write_changes(file, options.items, 1, list(TYPES))
        release_id, results["values, new and retired items"] = change(releases, release_id, file, retired[0])
        write_changes(file, options.items, 2, list(TYPES))
        release_id, results["the same once more, of the derived release"] = change(
            releases, release_id, file, retired[1]
        )
        _, results["retired items alone"] = change(releases, release_id, None, [item_id(500)])
        options.output.write_text(json.dumps(results, indent=1) + "\n")
        print(json.dumps(results, indent=1))
    finally:
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
