"""A look at the directory of the releases: which ones CURRENT and EXPERIMENT name, and what their files are."""

from collections.abc import Mapping, Set
from pathlib import Path
from typing import NamedTuple

from winnow.release.experiment import Experiment, ExperimentError, read_experiment
from winnow.release.reader import current_release_id, state_of_files


class NamedReleases(NamedTuple):
    """What was found."""

    current: str
    """The release that CURRENT names."""
    experiment: Experiment | None
    """None also where the file cannot be used."""
    experiment_error: str
    """Why it cannot be used; empty where it can be."""
    files: Mapping[str, Set[object]]
    """The state of the files of every release that is named."""


def look(releases: Path, running: Experiment | None) -> NamedReleases:
    """Read both files. Raises ReleaseError where there is no current release.

    Where EXPERIMENT cannot be used, the experiment that is `running` goes on, and so its releases are looked at.
    """
    current = current_release_id(releases)
    experiment, experiment_error = None, ""
    try:
        experiment = read_experiment(releases)
    except ExperimentError as error:
        experiment_error = str(error)
    going_on = running if experiment_error else experiment
    named = {current} | (frozenset() if going_on is None else going_on.release_ids)
    files = {release_id: state_of_files(releases / release_id) for release_id in named}
    return NamedReleases(current, experiment, experiment_error, files)
