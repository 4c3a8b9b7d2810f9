"""The ranking network that training begins with: it reads histories as a candidate network does."""

from collections.abc import Sequence
from dataclasses import replace

from winnow.networks.candidate import DeepCandidateGenerationModel
from winnow.networks.neighbours import Neighbours
from winnow.networks.options import RankingOptions
from winnow.networks.ranking import DeepRankingModel

TABLES = "matching.neighbours."


def ranking_network_over(
    candidate_network: DeepCandidateGenerationModel,
    *,
    embedding_dim: int,
    hidden_dim: int,
    n_hidden_layers: int,
    seed: int,
    options: RankingOptions,
) -> DeepRankingModel:
    """Return a network of these options, but with the history options of the candidate network.

    With `matching`, whose network has the candidate network's config, it contains the candidate network, and its own
    embeddings and bags are initially copies of that network's. Its embedding_dim has to be the same then. Without
    `matching` they are drawn from `seed`.
    """
    read = candidate_network.config.options
    network = DeepRankingModel(
        candidate_network.n_items,
        embedding_dim,
        hidden_dim,
        n_hidden_layers,
        seed,
        replace(options, history=read.history, embedding_std=read.embedding_std),
    )
    if network.matching is not None:
        network.matching.network.load_state_dict(candidate_network.state_dict())
        network.embedding.load_state_dict(candidate_network.embedding.state_dict())
        if network.bags is not None and candidate_network.bags is not None:
            network.bags.load_state_dict(candidate_network.bags.state_dict())
    return network


def with_neighbours(network: DeepRankingModel, tables: Sequence[Neighbours]) -> DeepRankingModel:
    """Return the trained network with these tables, and no others, added to its logit.

    One that does not add the logit of a candidate network stays as it is.
    """
    matching = network.config.options.matching
    if matching is None or not matching.adds_logit or not (tables or matching.neighbours):
        return network
    options = replace(
        network.config.options, matching=replace(matching, neighbours=tuple(table.options for table in tables))
    )
    changed = DeepRankingModel.from_config(replace(network.config, options=options))
    weights = {name: values for name, values in network.state_dict().items() if not name.startswith(TABLES)}
    of_tables = {
        f"{TABLES}{number}.{name}": values
        for number, table in enumerate(tables)
        for name, values in table.state_dict().items()
    }
    changed.load_state_dict({**weights, **of_tables})
    return changed.to(network.embedding.weight.device).eval().requires_grad_(requires_grad=False)
