"""The networks of the notebook, seed for seed: its printed outputs, to the 4 decimals that it asserts."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from winnow.networks.candidate import DeepCandidateGenerationModel
from winnow.networks.ranking import DeepRankingModel


@pytest.fixture(scope="module")
def notebook() -> dict[str, Any]:
    golden: dict[str, Any] = json.loads(Path(__file__).with_name("notebook.json").read_text())
    return golden


def test_candidate_network(notebook: dict[str, Any]) -> None:
    golden = notebook["candidate"]
    network = DeepCandidateGenerationModel(**golden["init"])
    probabilities = network([torch.tensor(history) for history in golden["user_histories"]])
    np.testing.assert_array_equal(
        np.round(probabilities.detach().double().numpy(), 4), np.round(golden["expected_probabilities"], 4)
    )


def test_ranking_network(notebook: dict[str, Any]) -> None:
    golden = notebook["ranking"]
    network = DeepRankingModel(**golden["init"])
    probabilities = network(torch.tensor(golden["user_history"]), torch.tensor(golden["scored_item"]))
    np.testing.assert_array_equal(
        np.round(probabilities.detach().double().numpy(), 4), np.round(golden["expected_probabilities"], 4)
    )
