"""The ranking network that training begins with: it reads histories as a candidate network does."""

from typing import Any

from winnow.networks.candidate import DeepCandidateGenerationModel
from winnow.networks.ranking import DeepRankingModel


def ranking_network_over(
    candidate_network: DeepCandidateGenerationModel,
    *,
    embedding_dim: int,
    hidden_dim: int,
    n_hidden_layers: int,
    seed: int,
    matching: bool,
    **options: Any,
) -> DeepRankingModel:
    """Return a network with the candidate network's history bags and further `options` of DeepRankingModel.

    With `matching` it contains the candidate network, and its own embeddings and bags are copies of that network's,
    whose embedding_dim it must have; without, they are drawn from `seed`.
    """
    shape = candidate_network.constructor_arguments()
    network = DeepRankingModel(
        candidate_network.n_items,
        embedding_dim,
        hidden_dim,
        n_hidden_layers,
        seed,
        history_length=shape["history_length"],
        bag_decays=shape["bag_decays"],
        bag_lags=shape["bag_lags"],
        signed_bags=shape["signed_bags"],
        watch_features=shape["watch_features"],
        embedding_std=shape["embedding_std"],
        matching=shape if matching else None,
        **options,
    )
    if network.matching is not None:
        network.matching.load_state_dict(candidate_network.state_dict())
        network.embedding.load_state_dict(candidate_network.embedding.state_dict())
        if network.bags is not None and candidate_network.bags is not None:
            network.bags.load_state_dict(candidate_network.bags.state_dict())
    return network
