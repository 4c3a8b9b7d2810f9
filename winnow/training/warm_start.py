"""Training that begins where an earlier release ended: weights of the same shape and meaning are taken from it.

Shape legend: I items.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from rich.console import Console
from torch import Tensor

from winnow.catalogue.attribute_codes import ItemCodes
from winnow.catalogue.vocabulary import Vocabulary
from winnow.history import Rows
from winnow.networks.candidate import DeepCandidateGenerationModel
from winnow.networks.ranking import DeepRankingModel
from winnow.release.models.loader import load_candidate_network, load_ranking_network
from winnow.release.reader import Release
from winnow.training.run_context import CPU

# A row for each item: taken item by item.
ITEM_TABLES = ("embedding.weight", "output.weight")
ATTRIBUTES, PARTS = "attributes.", "parts."
# What ranking learns on top of the candidate network; everything else in it is copied or counted anew.
RANKING_LAYERS = ("tower.", "output.")


@dataclass(frozen=True, kw_only=True, eq=False)
class WarmStart:
    """The weights of an earlier release, for the items of a new one."""

    release_id: str
    candidate_weights: Mapping[str, Tensor]
    ranking_weights: Mapping[str, Tensor]
    rows_there: Rows
    """The row in the earlier release of each item, int32; -1 where it is new."""
    codes_equal: bool
    """Whether the earlier release numbers the values of attributes as the new one does."""

    @classmethod
    def of(cls, release: Release, vocabulary: Vocabulary, codes: ItemCodes) -> "WarmStart":
        """Read a release. Raises ReleaseError where its networks cannot be loaded."""
        return cls(
            release_id=release.release_id,
            candidate_weights=load_candidate_network(release, CPU).state_dict(),
            ranking_weights=load_ranking_network(release, CPU).state_dict(),
            rows_there=vocabulary.rows_in(release.vocabulary()),
            codes_equal=release.item_codes() == codes,
        )

    def of_candidate(self, network: DeepCandidateGenerationModel, console: Console) -> None:
        """Replace the weights that were drawn, where the earlier release has them; print which these are."""
        taken, drawn = list[str](), list[str]()
        for name, weights in network.named_parameters():
            if name in ITEM_TABLES:
                # With parts, a release has the sums of the items' own parts and of those by attributes.
                found = network.parts is None and self._take_rows(name, weights)
            else:
                by_codes = name.startswith((ATTRIBUTES, PARTS))
                found = (self.codes_equal or not by_codes) and _take(name, weights, self.candidate_weights)
            (taken if found else drawn).append(name)
        _tell(console, "candidate", self.release_id, taken, drawn)
        known = int((self.rows_there >= 0).sum())
        console.print(f"  items of that release: {known:,} of {len(self.rows_there):,}; the others' rows are drawn")

    def of_ranking(self, network: DeepRankingModel, console: Console) -> None:
        """Likewise, for the layers that the ranking network learns."""
        taken, drawn = list[str](), list[str]()
        for name, weights in network.named_parameters():
            if name.startswith(RANKING_LAYERS):
                (taken if _take(name, weights, self.ranking_weights) else drawn).append(name)
        _tell(console, "ranking", self.release_id, taken, drawn)

    @torch.no_grad()
    def _take_rows(self, name: str, weights: Tensor) -> bool:
        there = self.candidate_weights.get(name)
        if there is None or there.shape[1:] != weights.shape[1:]:
            return False
        known = np.flatnonzero(self.rows_there >= 0)
        weights[torch.from_numpy(known)] = there[torch.from_numpy(self.rows_there[known])].to(weights.device)
        return True


@torch.no_grad()
def _take(name: str, weights: Tensor, there: Mapping[str, Tensor]) -> bool:
    if name not in there or there[name].shape != weights.shape:
        return False
    weights.copy_(there[name])
    return True


def _tell(console: Console, network: str, release_id: str, taken: list[str], drawn: list[str]) -> None:
    console.print(
        f"{network} network: starts from release {release_id}: {', '.join(taken) or 'nothing'}; "
        f"drawn: {', '.join(drawn) or 'nothing'}",
        soft_wrap=True,
        markup=False,
    )
