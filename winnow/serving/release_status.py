"""Which releases a service holds and which experiment it takes part in, as operators see it."""

from dataclasses import dataclass
from enum import Enum


class ReleaseState(Enum):
    """What a service does with a release."""

    CURRENT = "current"
    EXPERIMENT = "experiment"
    WAITING = "waiting"
    RETIRING = "retiring"
    LOADING = "loading"
    REFUSED = "refused"


@dataclass(frozen=True, kw_only=True)
class ReleaseStatus:
    """One release, as operators see it."""

    release_id: str
    state: ReleaseState
    reason: str = ""
    in_flight_count: int = 0


@dataclass(frozen=True, kw_only=True)
class ArmStatus:
    """One arm of an experiment, as operators see it."""

    name: str
    release_id: str
    share: float
    shadow: bool
    waits_for: str
    """Why its release is not used; empty where it is."""


@dataclass(frozen=True, kw_only=True)
class ExperimentStatus:
    """The experiment that a service takes part in, as operators see it."""

    name: str = ""
    arms: tuple[ArmStatus, ...] = ()
    file_error: str = ""
    """Why EXPERIMENT cannot be used; empty where it can be."""
