"""The ranking network that training begins with: it reads histories as a candidate network does."""

from collections.abc import Callable, Sequence
from dataclasses import replace

from torch import nn

from winnow.networks.candidate import DeepCandidateGenerationModel
from winnow.networks.neighbours import Neighbours
from winnow.networks.options import RankingOptions
from winnow.networks.ranking import DeepRankingModel
from winnow.release.models.loader import build_network

TABLES = "matching.neighbours."


def ranking_network_over(
    candidate_network: DeepCandidateGenerationModel,
    *,
    embedding_dim: int,
    hidden_dim: int,
    n_hidden_layers: int,
    seed: int,
    options: RankingOptions,
    build: Callable[..., DeepRankingModel] = DeepRankingModel,
) -> DeepRankingModel:
    """Return a network of these options, but with the history options of the candidate network.

    With `matching`, whose network has the candidate network's config, it contains the candidate network, and its own
    embeddings and bags are initially copies of that network's. Its embedding_dim has to be the same then. Without
    `matching` they are drawn from `seed`. `build` is called as the network's class is.
    """
    read = candidate_network.config.options
    network = build(
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
    """Return the trained network with these tables, and no others, added to its logit. It shares its weights.

    One that does not add the logit of a candidate network stays as it is.
    """
    matching = network.config.options.matching
    if matching is None or not matching.adds_logit or not (tables or matching.neighbours):
        return network
    options = replace(
        network.config.options, matching=replace(matching, neighbours=tuple(table.options for table in tables))
    )
    weights = {name: values for name, values in network.state_dict().items() if not name.startswith(TABLES)}
    weights |= nn.ModuleList(tables).state_dict(prefix=TABLES)
    config = replace(network.config, options=options)
    return build_network(DeepRankingModel.from_config, config, weights)
