"""The requests of a load: histories from a file, or drawn from a release."""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from winnow.release.reader import open_current_release
from winnow.v1 import recommendation_pb2

# Enough different requests that a cache of a few entries does not flatter the figures.
DRAWN_HISTORIES = 2_000


def read_histories(path: Path) -> list[list[str]]:
    """Read one JSON list of item ids a line. Raises ValueError that names the first bad line."""
    histories = []
    with path.open(encoding="utf-8") as lines:
        for number, line in enumerate(lines, start=1):
            try:
                history = json.loads(line)
            except json.JSONDecodeError as error:
                raise ValueError(f"{path}, line {number}: {error}") from None
            if not isinstance(history, list) or not all(isinstance(item_id, str) for item_id in history):
                raise ValueError(f"{path}, line {number}: not a list of item ids")
            histories.append(history)
    if not histories:
        raise ValueError(f"{path} holds no history")
    return histories


def draw_histories(releases: Path, length: int, seed: int = 0) -> list[list[str]]:
    """Draw histories from the current release, items as often as they are popular. Raises ReleaseError."""
    release = open_current_release(releases)
    vocabulary, popularity = release.vocabulary(), release.popularity().astype(np.float64)
    rows = np.random.default_rng(seed).choice(
        len(vocabulary), size=(DRAWN_HISTORIES, length), p=popularity / popularity.sum()
    )
    return [vocabulary.item_ids(history) for history in rows.tolist()]


def serialize(histories: Sequence[Sequence[str]], item_count: int) -> list[bytes]:
    """Return one serialized RecommendItemsRequest for each history."""
    return [
        recommendation_pb2.RecommendItemsRequest(
            history=[recommendation_pb2.Watch(item_id=item_id) for item_id in history], item_count=item_count
        ).SerializeToString()
        for history in histories
    ]
