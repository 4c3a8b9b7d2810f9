"""The continuous features of a ranking network: computed, turned into columns, and a share of its first layer.

Shape legend: N candidates of all requests together, R features, C columns, D width of the first layer.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from winnow.networks.candidate import DeepCandidateGenerationModel
from winnow.networks.features.batch import FeatureBatch
from winnow.networks.features.item_tables import ItemTables
from winnow.networks.features.quantiles import QuantileColumns
from winnow.networks.features.registry import FEATURES
from winnow.networks.packed import PackedTensor


class ContinuousFeatures(nn.Module):
    """Some of the registered features, and the part of the network's first layer that reads them."""

    def __init__(self, n_items: int, names: Sequence[str], width: int, *, has_candidate_network: bool) -> None:
        """Draw a layer of `width` D. Raises ValueError that names a feature which is unknown or cannot be computed."""
        super().__init__()
        unknown = [name for name in names if name not in FEATURES]
        if unknown:
            raise ValueError(f"features: {', '.join(unknown)}: they are some of {', '.join(FEATURES)}")
        self.features = [FEATURES[name] for name in names]
        unmatched = [feature.name for feature in self.features if feature.reads_candidate_network]
        if unmatched and not has_candidate_network:
            raise ValueError(f"matching is None: the features {' and '.join(unmatched)} read its network")
        self.items = ItemTables(n_items)
        self.quantiles = QuantileColumns(len(names))
        # Separate from the weights for the embeddings, so that those are drawn as without features.
        self.layer = nn.Linear(self.quantiles.column_count, width, bias=False)

    @property
    def read_contexts(self) -> bool:
        """Whether any feature depends on RequestContexts."""
        return any(feature.reads_context for feature in self.features)

    def raw(
        self, histories: PackedTensor, candidates: PackedTensor, network: DeepCandidateGenerationModel | None
    ) -> Tensor:
        """Return the features of every candidate, float32 [N, R], NaN where unknown; `network` is for some of them."""
        batch = FeatureBatch(histories=histories, candidates=candidates, items=self.items, network=network)
        return torch.stack([feature.compute(batch).to(torch.float32) for feature in self.features], dim=1)

    def columns(
        self, histories: PackedTensor, candidates: PackedTensor, network: DeepCandidateGenerationModel | None
    ) -> Tensor:
        """Return the columns that `forward` reads, [N, C]. They depend on nothing that ranking trains."""
        columns_NC: Tensor = self.quantiles(self.raw(histories, candidates, network))
        return columns_NC

    def forward(self, columns_NC: Tensor) -> Tensor:
        """Return the features' share of the first layer's output, [N, D]."""
        share_ND: Tensor = self.layer(columns_NC)
        return share_ND
