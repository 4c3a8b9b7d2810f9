"""A release becomes current when Milvus holds it; the collections of older ones are dropped."""

from collections.abc import Callable
from pathlib import Path

from winnow.locks import try_lock
from winnow.milvus.connection import EngineError, MilvusAddress
from winnow.milvus.filling import FILES, Filling
from winnow.milvus.record import collection_name
from winnow.release.experiment import ExperimentError, read_experiment
from winnow.release.manifest import MANIFEST_FILE
from winnow.release.reader import ReleaseError, current_release_id, open_release


def publish_with_milvus(
    releases: Path,
    release_id: str,
    address: MilvusAddress,
    *,
    make_current: Callable[[], None],
    least_recall: float,
    keep: int,
    timeout_seconds: float,
    report: Callable[[str], None],
) -> None:
    """Fill and verify the collection of a release, make it current, and drop the collections of older releases.

    Those of the release that was current, of an experiment and of the latest `keep` releases stay. Raises EngineError
    or ReleaseError; then what was current stays so.
    """
    with try_lock(releases / release_id) as free:
        if not free:
            raise EngineError(f"release {release_id} is being published by another process")
        release = open_release(releases / release_id, FILES)
        Filling(
            release=release,
            address=address,
            least_recall=least_recall,
            timeout_seconds=timeout_seconds,
            report=report,
        ).fill()
        before = _current(releases)
        make_current()
        # Services that have refused it try again when one of its files has changed.
        (releases / release_id / MANIFEST_FILE).touch()
    _drop_older(
        releases, {release_id, before or release_id}, address, keep=keep, timeout_seconds=timeout_seconds, report=report
    )


def _drop_older(
    releases: Path,
    in_use: set[str],
    address: MilvusAddress,
    *,
    keep: int,
    timeout_seconds: float,
    report: Callable[[str], None],
) -> None:
    """Drop the collections of releases in this directory, and of no others: Milvus may have those of other services."""
    try:
        experiment = read_experiment(releases)
    except ExperimentError as error:
        report(f"no collection is dropped: {error}")
        return
    in_use |= frozenset() if experiment is None else experiment.release_ids
    newest_first = sorted((path.name for path in releases.iterdir() if path.is_dir()), reverse=True)
    with address.client(timeout_seconds) as client:
        there = set(client.list_collections())
        filled = [release_id for release_id in newest_first if collection_name(release_id) in there]
        kept = in_use.union(filled[: keep + 1])
        for release_id in filled:
            if release_id in kept:
                continue
            # Another process may be publishing it, or has done so meanwhile.
            with try_lock(releases / release_id) as free:
                if free and _current(releases) != release_id:
                    client.drop_collection(collection_name(release_id))
                    report(f"{collection_name(release_id)} dropped")


def _current(releases: Path) -> str | None:
    try:
        return current_release_id(releases)
    except ReleaseError:
        return None
