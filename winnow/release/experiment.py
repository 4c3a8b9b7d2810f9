"""The file EXPERIMENT beside CURRENT: releases that answer a share of the users, or are asked as shadows.

All services read it: each holds the releases that it names beside the current one. It is replaced atomically, like
CURRENT, and nothing in it is trusted before all of it has been checked.
"""

import hashlib
import secrets
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Annotated, Literal, NamedTuple, Self

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, ValidationError, model_validator

from winnow.locks import try_lock
from winnow.release.publication import remove_file, replace_file
from winnow.release.reader import open_regular_file

EXPERIMENT_FILE = "EXPERIMENT"
MAX_FILE_BYTES = 64 * 1024
# Every arm's release is in the memory of every service.
MAX_ARMS = 4
# The arm of users who have no other one.
CURRENT_ARM = "current"
# Users are divided into so many groups at random: how much a figure differs between them says how sure it is.
USER_GROUP_COUNT = 20

Name = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_-]{0,31}$")]
ReleaseId = Annotated[str, Field(pattern=r"^[A-Za-z0-9_-][A-Za-z0-9._-]{0,127}$")]


class ExperimentError(ValueError):
    """The file EXPERIMENT cannot be used; the message says why."""


class Arm(BaseModel):
    """A release and its share."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    name: Name
    """What answers, metrics and logs call it."""
    release_id: ReleaseId
    share: Annotated[float, Field(gt=0, le=1)]
    """Of the users whose requests it answers; of a shadow, of the requests that it is asked too."""
    shadow: bool = False
    """Asked after the answer and compared with it, never answered with."""


class Assignment(NamedTuple):
    """Where a user is in an experiment, the same at every gateway."""

    arm: Arm | None
    """None where the current release answers."""
    group: int
    """In [0, USER_GROUP_COUNT), independent of the arm."""


class Experiment(BaseModel):
    """What EXPERIMENT says."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    format_version: Literal[1] = 1
    name: Name
    salt: Annotated[str, Field(pattern=r"^[0-9a-f]{32}$")]
    """Drawn anew for each experiment, so that its users are divided independently of those of others."""
    started_at: AwareDatetime
    current_release_id: ReleaseId
    """What CURRENT named at the start: figures do not compare if it has changed since."""
    arms: Annotated[tuple[Arm, ...], Field(min_length=1, max_length=MAX_ARMS)]

    @model_validator(mode="after")
    def _check_arms(self) -> Self:
        for name, count in Counter(arm.name for arm in self.arms).items():
            if name == CURRENT_ARM:
                raise ValueError(f"no arm can be called {CURRENT_ARM}: that is the arm of the current release")
            if count > 1:
                raise ValueError(f"{count} arms are called {name}")
        # In millionths, because 0.1 + 0.2 + 0.7 is more than 1.
        if (total := round(sum(arm.share for arm in self.answering_arms), 6)) > 1:
            raise ValueError(f"the shares of users add up to {total:g}: at most 1 is possible")
        if sum(arm.shadow for arm in self.arms) > 1:
            raise ValueError("there is more than one shadow")
        return self

    @property
    def answering_arms(self) -> tuple[Arm, ...]:
        """The arms that answer users."""
        return tuple(arm for arm in self.arms if not arm.shadow)

    @property
    def shadow(self) -> Arm | None:
        """The arm that is asked too, if any."""
        return next((arm for arm in self.arms if arm.shadow), None)

    @property
    def release_ids(self) -> frozenset[str]:
        """The releases to be held beside the current one."""
        return frozenset(arm.release_id for arm in self.arms)

    def assign(self, user_id: str) -> Assignment:
        """Return the arm of a user. It depends on the user id, the salt and the shares, and on nothing else."""
        digest = hashlib.blake2b(user_id.encode(), digest_size=16, key=self.salt.encode()).digest()
        position = int.from_bytes(digest[:8], "big") / 2**64
        group = int.from_bytes(digest[8:], "big") % USER_GROUP_COUNT
        end = 0.0
        for arm in self.answering_arms:
            end += arm.share
            if position < end:
                return Assignment(arm, group)
        return Assignment(None, group)


def new_experiment(name: str, arms: tuple[Arm, ...], current_release_id: str, started_at: datetime) -> Experiment:
    """Return an experiment with a salt of its own. Raises ExperimentError that names what is wrong with it."""
    try:
        return Experiment(
            name=name,
            salt=secrets.token_hex(16),
            started_at=started_at,
            current_release_id=current_release_id,
            arms=arms,
        )
    except ValidationError as error:
        raise ExperimentError(_first_problem(error)) from error


def read_experiment(releases: Path) -> Experiment | None:
    """Return what EXPERIMENT says, None where there is no such file. Raises ExperimentError."""
    try:
        with open_regular_file(releases / EXPERIMENT_FILE) as file:
            content = file.read(MAX_FILE_BYTES + 1)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise ExperimentError(f"{EXPERIMENT_FILE} cannot be read ({error.strerror})") from error
    if len(content) > MAX_FILE_BYTES:
        raise ExperimentError(f"{EXPERIMENT_FILE} is longer than {MAX_FILE_BYTES} bytes")
    try:
        return Experiment.model_validate_json(content)
    except ValidationError as error:
        raise ExperimentError(f"{EXPERIMENT_FILE}, {_first_problem(error)}") from error


@contextmanager
def changing_experiment(releases: Path) -> Iterator[None]:
    """Keep other processes from changing EXPERIMENT until the block ends. Raises ExperimentError where one does."""
    with try_lock(releases) as free:
        if not free:
            raise ExperimentError(f"another process is changing the experiment in {releases}")
        yield


def write_experiment(releases: Path, experiment: Experiment) -> None:
    """Replace EXPERIMENT atomically."""
    replace_file(releases, EXPERIMENT_FILE, experiment.model_dump_json(indent=1))


def remove_experiment(releases: Path) -> None:
    """Remove EXPERIMENT, whatever is in it. Raises ExperimentError where there is none."""
    try:
        remove_file(releases, EXPERIMENT_FILE)
    except FileNotFoundError as error:
        raise ExperimentError(f"no experiment is running in {releases}") from error


def _first_problem(error: ValidationError) -> str:
    first = error.errors(include_input=False, include_url=False)[0]
    where = ".".join(map(str, first["loc"])) or "the whole"
    return f"{where}: {first['msg'].removeprefix('Value error, ')}"
