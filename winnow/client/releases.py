"""What `release` and `status` return: facts about the release, and the state of one service."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum

from winnow.v1 import catalogue_pb2, status_pb2


@dataclass(frozen=True, slots=True, kw_only=True)
class ReleaseIndex:
    """How candidates are found."""

    kind: str
    """`exact`, a scan of all items, or `ivf`, of the lists that are nearest to the query."""
    list_count: int
    probe_count: int
    """How many of the lists one query scans."""
    recall_at_200: float
    """Share of the true best 200 that is found, measured when the release was made."""
    tuned_on_query_count: int
    """On how many held-out histories that was measured."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluation:
    """What was measured of one recommender on a part of the data."""

    part: str
    """`validation` or `test`."""
    subject: str
    """`chain`, `candidate`, or a baseline."""
    figures: Mapping[str, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Epoch:
    """One epoch of the training of a network."""

    network: str
    """`candidate` or `ranking`."""
    number: int
    """From 1."""
    loss: float
    """The mean on the training data."""
    figures: Mapping[str, float]
    """On validation data."""
    best: bool
    """Whether the network was kept as it was after this epoch."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReleaseFacts:
    """What the release was made from, and how good it was on held-out data."""

    release_id: str
    created: datetime
    derived_from: str | None
    """The release that it was made from without training; None if it was trained."""
    item_count: int
    """Added and retired ones included."""
    added_item_count: int
    retired_item_count: int
    user_count: int | None
    """Of the training log."""
    watch_count: int | None
    """Of the training log."""
    index: ReleaseIndex
    evaluations: tuple[Evaluation, ...]
    epochs: tuple[Epoch, ...]
    """By network, oldest first."""


class ReleaseState(StrEnum):
    """What a replica does with a release."""

    CURRENT = "CURRENT"
    """New requests are answered from it."""
    WAITING = "WAITING"
    """Loaded and checked; the gateway waits for replicas of the stages."""
    RETIRING = "RETIRING"
    """Held for requests that are pinned to it."""
    LOADING = "LOADING"
    """Being verified, loaded and checked, or still incomplete."""
    REFUSED = "REFUSED"
    """Not used."""
    EXPERIMENT = "EXPERIMENT"
    """Used for an arm of an experiment."""
    UNKNOWN = "UNKNOWN"
    """A state that this version of the client does not know."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReleaseStatus:
    """One release on one replica."""

    release_id: str
    state: ReleaseState
    reason: str
    """Why it was refused, or what it waits for."""
    in_flight_count: int
    """Requests that use it at this moment."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceStatus:
    """The state of one replica of one of the three services."""

    service: str
    """`candidate_service`, `ranking_service` or `gateway`."""
    version: str
    release_id: str | None
    """The release that new requests are answered from; None while none is loaded."""
    releases: tuple[ReleaseStatus, ...]
    """Every release that is held, on its way in, or refused; the newest last."""


_STATES = {status_pb2.ReleaseState.Value(f"RELEASE_STATE_{state}"): state for state in ReleaseState
           if state is not ReleaseState.UNKNOWN}  # fmt: skip


def release_facts(response: catalogue_pb2.GetReleaseResponse) -> ReleaseFacts:
    """Read the answer of GetRelease."""
    index = response.index
    return ReleaseFacts(
        release_id=response.release_id,
        created=datetime.fromtimestamp(response.created_timestamp_seconds, UTC),
        derived_from=response.derived_from or None,
        item_count=response.item_count,
        added_item_count=response.added_item_count,
        retired_item_count=response.retired_item_count,
        user_count=response.user_count if response.HasField("user_count") else None,
        watch_count=response.watch_count if response.HasField("watch_count") else None,
        index=ReleaseIndex(
            kind=index.kind,
            list_count=index.list_count,
            probe_count=index.probe_count,
            recall_at_200=index.recall_at_200,
            tuned_on_query_count=index.tuned_on_query_count,
        ),
        evaluations=tuple(
            Evaluation(part=measured.part, subject=measured.subject, figures=dict(measured.figures))
            for measured in response.evaluations
        ),
        epochs=tuple(
            Epoch(
                network=epoch.network,
                number=epoch.number,
                loss=epoch.loss,
                figures=dict(epoch.figures),
                best=epoch.best,
            )
            for epoch in response.epochs
        ),
    )


def service_status(response: status_pb2.GetStatusResponse) -> ServiceStatus:
    """Read the answer of GetStatus."""
    return ServiceStatus(
        service=response.service,
        version=response.version,
        release_id=response.release_id or None,
        releases=tuple(
            ReleaseStatus(
                release_id=release.release_id,
                state=_STATES.get(release.state, ReleaseState.UNKNOWN),
                reason=release.reason,
                in_flight_count=release.in_flight_count,
            )
            for release in response.releases
        ),
    )
