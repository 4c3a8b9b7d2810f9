"""Whether the release of a run is made current."""

from pathlib import Path
from typing import Literal

import torch
from rich.console import Console

from winnow.catalogue.vocabulary import Vocabulary
from winnow.evaluation.gate import Verdict, judge, ranks_of_release
from winnow.evaluation.rank_figures import Ranks
from winnow.logs.split import HeldOut
from winnow.release.manifest import CURRENT_FILE
from winnow.release.reader import ReleaseError, open_current_release
from winnow.training.trained_networks import Validated

Publish = Literal["not-worse", "always", "never"]


def compare_on_validation(
    validated: Validated, vocabulary: Vocabulary, split: str, releases: Path, device: torch.device, console: Console
) -> Verdict:
    """Compare a new release, on the validation watches, with the best baseline and with the current release.

    A current release that cannot be read, or that was trained on another split and so may have learned from these
    watches, is not compared; the console is told.
    """
    held_out = validated.held_out
    current = _ranks_of_current(held_out, vocabulary, split, releases, device, console)
    return judge(validated.chain, validated.baselines, current, held_out.users)


def _ranks_of_current(
    held_out: HeldOut, vocabulary: Vocabulary, split: str, releases: Path, device: torch.device, console: Console
) -> dict[str, Ranks]:
    if not (releases / CURRENT_FILE).is_file():
        return {}
    try:
        release = open_current_release(releases)
        trained_on = release.manifest.training.get("settings", {}).get("split", split)
        if trained_on != split:
            console.print(
                f"The current release {release.release_id} is not compared: its split is {trained_on}, so it may have "
                f"learned from the validation watches",
                soft_wrap=True,
            )
            return {}
        ranks = ranks_of_release(release, vocabulary, held_out, device)
    except ReleaseError as error:
        console.print(f"The current release is not compared: {error}", markup=False, soft_wrap=True)
        return {}
    return {f"the current release {release.release_id}": ranks}
