"""Training that begins with an earlier release takes what fits, item by item, and says what that is."""

from dataclasses import replace
from io import StringIO
from pathlib import Path

import pytest
import torch
from rich.console import Console

from tests.unit.training.planted import write_planted_log
from tests.unit.training.planted_run import train_planted
from tests.unit.training.settings import TINY
from winnow.catalogue.attribute_codes import NO_CODES
from winnow.catalogue.vocabulary import Vocabulary
from winnow.networks.candidate import DeepCandidateGenerationModel
from winnow.networks.ranking import DeepRankingModel
from winnow.release.models.loader import load_candidate_network, load_ranking_network
from winnow.release.reader import Release, open_release
from winnow.training.warm_start import WarmStart

CPU = torch.device("cpu")
# Without tables of neighbours, which are not trained.
SETTINGS = replace(
    TINY, candidate=replace(TINY.candidate, epochs=2), ranking=replace(TINY.ranking, epochs=1, neighbours=False)
)


@pytest.fixture(scope="module")
def release(tmp_path_factory: pytest.TempPathFactory) -> Release:
    directory = tmp_path_factory.mktemp("warm")
    write_planted_log(directory / "log.csv")
    return open_release(directory / "releases" / train_planted(directory, SETTINGS).release_id)


def test_rows_are_taken_by_item_id_and_layers_by_shape(release: Release) -> None:
    earlier = load_candidate_network(release, CPU)
    known = release.vocabulary().item_ids(range(len(release.vocabulary())))
    # Another order, one item less, one more.
    vocabulary = Vocabulary(["new", *reversed(known[1:])])
    network = DeepCandidateGenerationModel.from_config(replace(earlier.config, n_items=len(vocabulary), seed=77))
    drawn = {name: weights.detach().clone() for name, weights in network.named_parameters()}
    output = StringIO()
    WarmStart.of(release, vocabulary, NO_CODES).of_candidate(network, Console(file=output, width=1000))
    for table in ("embedding.weight", "output.weight"):
        now, then = network.get_parameter(table), earlier.get_parameter(table)
        torch.testing.assert_close(now[1:], then[1:].flip(0))
        torch.testing.assert_close(now[0], drawn[table][0])
    for name, weights in network.named_parameters():
        if name not in ("embedding.weight", "output.weight"):
            torch.testing.assert_close(weights, earlier.get_parameter(name))
    assert f"starts from release {release.release_id}: " in output.getvalue()
    assert all(name in output.getvalue() for name in drawn)
    assert "drawn: nothing" in output.getvalue()
    assert f"items of that release: {len(known) - 1} of {len(known)}" in output.getvalue()


def test_what_has_another_shape_is_drawn_and_named(release: Release) -> None:
    earlier = load_candidate_network(release, CPU)
    network = DeepCandidateGenerationModel.from_config(replace(earlier.config, hidden_dim=10, seed=77))
    drawn = network.item_vectors_IH.detach().clone()
    output = StringIO()
    WarmStart.of(release, release.vocabulary(), NO_CODES).of_candidate(network, Console(file=output, width=1000))
    torch.testing.assert_close(network.item_vectors_IH.detach(), drawn)
    torch.testing.assert_close(network.embedding.weight, earlier.embedding.weight)
    _, _, named = output.getvalue().splitlines()[0].partition("drawn: ")
    assert {"output.weight", "skip.weight"} <= set(named.split(", "))
    assert "embedding.weight" not in named


def test_ranking_takes_its_own_layers_and_nothing_of_the_earlier_candidate_network(release: Release) -> None:
    earlier = load_ranking_network(release, CPU)
    network = DeepRankingModel.from_config(replace(earlier.config, seed=77))
    drawn = network.embedding.weight.detach().clone()
    WarmStart.of(release, release.vocabulary(), NO_CODES).of_ranking(network, Console(file=StringIO()))
    torch.testing.assert_close(network.output.weight, earlier.output.weight)
    torch.testing.assert_close(network.tower[0].weight, earlier.tower[0].weight)
    torch.testing.assert_close(network.embedding.weight.detach(), drawn)


@pytest.mark.slow
def test_a_run_that_begins_with_a_release_begins_better(release: Release, tmp_path: Path) -> None:
    """One epoch of a tiny step size: what is drawn stays bad, what is taken stays good."""
    unlearned = replace(SETTINGS, candidate=replace(SETTINGS.candidate, epochs=1, learning_rate=1e-9))
    write_planted_log(tmp_path / "log.csv")
    found = {}
    for start in (None, release):
        result = train_planted(tmp_path, unlearned, publish="never", start=start)
        found[start is release] = result.figures["validation"]["candidate"]["hr_at_10"]
        training = open_release(tmp_path / "releases" / result.release_id).manifest.training
        assert training["started_from"] == (start and start.release_id)
    assert found[True] > found[False] + 0.1
    assert found[True] == pytest.approx(release.manifest.figures["validation"]["candidate"]["hr_at_10"], abs=0.03)
