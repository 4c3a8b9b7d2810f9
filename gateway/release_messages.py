"""Writes what the manifest of a release says."""

from collections.abc import Iterator, Mapping
from typing import Any

from winnow.release.manifest import Manifest
from winnow.v1 import catalogue_pb2


def write_release_facts(manifest: Manifest) -> catalogue_pb2.GetReleaseResponse:
    """Return the facts that people ask for. What a training has not written down is left out."""
    training, index = manifest.training, manifest.index
    return catalogue_pb2.GetReleaseResponse(
        release_id=manifest.release_id,
        created_timestamp_seconds=int(manifest.created_at.timestamp()),
        derived_from=manifest.derived_from or "",
        item_count=manifest.item_count,
        added_item_count=manifest.added_item_count,
        retired_item_count=manifest.retired_item_count,
        user_count=training.get("user_count"),
        watch_count=training.get("watch_count"),
        index=catalogue_pb2.ReleaseIndex(
            kind=index.kind,
            list_count=index.list_count,
            probe_count=index.probe_count,
            recall_at_200=index.recall_at_200,
            tuned_on_query_count=index.tuned_on_query_count,
        ),
        evaluations=[
            catalogue_pb2.Evaluation(part=part, subject=subject, figures=numbers)
            for part, subjects in manifest.figures.items()
            for subject, figures in subjects.items()
            if (numbers := _numbers(figures))
        ],
        epochs=_epochs(training),
    )


def _epochs(training: Mapping[str, Any]) -> Iterator[catalogue_pb2.Epoch]:
    best = training.get("best_epochs", {})
    for network, epochs in training.get("epochs", {}).items():
        for number, figures in enumerate(epochs, start=1):
            numbers = _numbers(figures)
            yield catalogue_pb2.Epoch(
                network=network,
                number=number,
                loss=numbers.pop("loss"),
                figures=numbers,
                best=best.get(network) == number,
            )


def _numbers(figures: Mapping[str, Any]) -> dict[str, float]:
    return {name: float(value) for name, value in figures.items() if isinstance(value, int | float)}
