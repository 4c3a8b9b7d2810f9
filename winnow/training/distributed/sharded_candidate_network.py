"""The candidate network with sharded tables. Everything else in it is the same in all processes.

Shape legend: N watches or candidates, U different rows, H hidden_dim.
"""

from torch import Tensor, nn
from torch.nn import functional as F

from winnow.networks.candidate import DeepCandidateGenerationModel
from winnow.networks.history_bags import HistoryBags
from winnow.networks.options import CandidateConfig
from winnow.networks.packed import PackedTensor, average
from winnow.networks.tower import build_embedding, build_output
from winnow.training.distributed.processes import Processes
from winnow.training.distributed.sharded_table import ShardedTable, draw_own_rows
from winnow.training.distributed.table_layout import TableLayout


def summaries_by(
    table: nn.Embedding, bags: HistoryBags | None, histories: PackedTensor, attributes_NA: Tensor | None = None
) -> Tensor:
    """Summarise packed histories, [B, S], by the vectors of the rows in them, which a sharded table looks up."""
    assert isinstance(table, ShardedTable)  # noqa: S101
    vectors_UE, places_N = table.distinct(histories.rows)
    placed = histories._replace(rows=places_N.to(histories.offsets.dtype))
    if bags is None:
        return average(vectors_UE, placed)
    summaries_BS: Tensor = bags(vectors_UE, placed, attributes_NA)
    return summaries_BS


class ShardedCandidateNetwork(DeepCandidateGenerationModel):
    """Computes what the plain network computes; all its methods are collective.

    `item_vectors_IH` has the rows of this process only, in the order of `layout`, and so have `logits`.
    """

    def __init__(self, config: CandidateConfig, processes: Processes) -> None:
        """Draw the weights that the plain network has, but only this process's rows of the tables."""
        # Before nn.Module's constructor, which builds the tables.
        self.processes = processes
        self.layout = TableLayout(config.n_items, processes.rank, processes.count)
        super().__init__(**vars(config))

    def _build_embedding(self) -> nn.Embedding:
        width, std = self.config.embedding_dim, self.config.options.embedding_std
        own = draw_own_rows(lambda count: build_embedding(count, width, std), width, self.layout)
        return ShardedTable(own, self.layout, self.processes)

    def _build_output(self) -> nn.Linear:
        width = self.config.hidden_dim
        own = draw_own_rows(lambda count: build_output(width, count), width, self.layout)
        return ShardedTable(own, self.layout, self.processes)  # type: ignore[return-value]

    @property
    def output_table(self) -> nn.Module:
        """The table of `item_vectors_IH`."""
        return self.embedding if self.config.options.tied_tables else self.output

    def summaries(self, histories: PackedTensor) -> Tensor:
        """See DeepCandidateGenerationModel.summaries."""
        attributes_NA = None if self.attributes is None else self.attributes(histories.rows)
        return summaries_by(self.embedding, self.bags, histories, attributes_NA)

    def candidate_logits(self, histories: PackedTensor, candidates: PackedTensor) -> Tensor:
        """See DeepCandidateGenerationModel.candidate_logits."""
        user_NH = F.embedding(candidates.list_of_each_row(), self.user_vectors(histories))
        vectors_NH: Tensor = self.output_table(candidates.rows)
        return (user_NH * vectors_NH).sum(dim=1)
