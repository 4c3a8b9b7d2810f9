"""The index on vectors that a network has learned, of catalogues made larger.

`python -m benchmarks.real_vectors RELEASE WATCHES.parquet 300000` prints JSON: as benchmarks.growth, for the item
vectors of a release and the user vectors of the histories in a log (columns user_id, item_id, timestamp). Learned
catalogues are small. Each further item is a real one, moved by half the difference of two of its neighbours: a
direction and a distance in which items near it do differ.
"""

import json
import sys
from pathlib import Path

import numpy as np
import polars as pl
import torch
from torch import Tensor

from benchmarks.growth import TIMED_QUERIES, TUNING_QUERIES, measure_vectors
from winnow.catalogue.vocabulary import Vocabulary
from winnow.history import WatchHistories
from winnow.release.models.loader import load_candidate_network
from winnow.release.reader import open_release

# Near enough to differ as neighbours do, far enough to be many.
NEIGHBOURS = 10
LONGEST_HISTORY = 50
SHORTEST_HISTORY = 5


def enlarged(vectors_MH: Tensor, item_count: int, generator: torch.Generator) -> Tensor:
    """Return the vectors of so many items, [I, H], the real ones first."""
    real_count = len(vectors_MH)
    directions_MH = torch.nn.functional.normalize(vectors_MH)
    neighbours_MN = (directions_MH @ directions_MH.T).topk(NEIGHBOURS + 1).indices[:, 1:]
    added = item_count - real_count
    origins = torch.randint(real_count, (added,), generator=generator)
    first, second = (neighbours_MN[origins, torch.randint(NEIGHBOURS, (added,), generator=generator)] for _ in range(2))
    return torch.cat([vectors_MH, vectors_MH[origins] + (vectors_MH[first] - vectors_MH[second]) / 2])


def histories_of(log: Path, vocabulary: Vocabulary, count: int) -> WatchHistories:
    """Return the latest watches of random users."""
    watches = pl.read_parquet(log).sort("timestamp", maintain_order=True)
    ids = watches.group_by("user_id", maintain_order=True).agg(pl.col("item_id").tail(LONGEST_HISTORY))["item_id"]
    histories = [vocabulary.rows(history)[0] for history in ids.to_list()]
    usable = [history.tolist() for history in histories if len(history) >= SHORTEST_HISTORY]
    chosen = np.random.default_rng(0).choice(len(usable), count, replace=False)
    return WatchHistories.from_lists([usable[position] for position in chosen])


def main() -> None:
    """Make the vectors, measure, print."""
    directory, log, item_count = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])
    release = open_release(directory)
    network = load_candidate_network(release, torch.device("cpu"))
    histories = histories_of(log, release.vocabulary(), TUNING_QUERIES + TIMED_QUERIES)
    with torch.inference_mode():
        user_BH = network.user_vectors(network.pack(histories))
        vectors_IH = enlarged(network.item_vectors_IH, item_count, torch.Generator().manual_seed(0))
    print(json.dumps({"real_item_count": release.manifest.item_count} | measure_vectors(vectors_IH, user_BH), indent=1))


if __name__ == "__main__":
    main()
