from dataclasses import replace
from io import StringIO
from pathlib import Path

import pytest
import torch
from rich.console import Console

from candidate_service.retriever import Retriever
from ranking_service.ranker import Ranker
from tests.unit.training.planted import write_planted_impressions, write_planted_log
from tests.unit.training.planted_run import train_planted
from tests.unit.training.settings import TINY
from winnow.evaluation.figures_table import figures_table
from winnow.logs.input_table import InputFileError
from winnow.logs.interactions import read_interactions
from winnow.logs.trending import trending_items
from winnow.networks.options import AttributeShape
from winnow.release.models.loader import load_candidate_network, load_ranking_network
from winnow.release.reader import open_current_release, open_release
from winnow.training.run import RunPaths, RunResult, run


def run_in(directory: Path, name: str, *, resume: bool = False) -> RunResult:
    log = directory / "log.csv"
    if not log.exists():
        write_planted_log(log)
    paths = RunPaths(
        interactions=log, items=None, releases=directory / name, checkpoints=directory / f"{name}-checkpoints"
    )
    return run(paths, TINY, resume=resume, device=torch.device("cpu"), console=Console(file=StringIO()))


def test_the_same_data_and_seed_give_the_same_figures(tmp_path: Path) -> None:
    first, second = run_in(tmp_path, "first"), run_in(tmp_path, "second")
    assert first.figures == second.figures
    assert set(first.figures) == {"validation", "test"}
    assert first.figures["test"]["chain"]["mrr"] > 1.5 * first.figures["test"]["popularity"]["mrr"]
    resumed = run_in(tmp_path, "first", resume=True)
    assert resumed.figures == first.figures


def test_what_is_known_of_items_and_the_end_of_the_training_reach_the_release(tmp_path: Path) -> None:
    write_planted_log(tmp_path / "log.csv")
    lines = [f"item {row},Title {row},{'odd' if row % 2 else 'even'}" for row in range(40)]
    (tmp_path / "items.csv").write_text("\n".join(["item_id,title,group", *lines]) + "\n")
    options = replace(TINY.candidate.options, example_age=True, tied_tables=True)
    candidate = replace(TINY.candidate, epochs=1, attribute_columns=("group",), options=options)
    settings = replace(TINY, candidate=candidate, ranking=replace(TINY.ranking, epochs=1))
    train_planted(tmp_path, settings, items=True)
    release = open_current_release(tmp_path / "releases")
    # Of twelve watches a second, the last two are held out.
    assert release.manifest.training["max_training_timestamp"] == 9
    assert release.manifest.candidate_network.options.attributes == (AttributeShape(value_count=2, values_per_item=1),)
    vocabulary, network = release.vocabulary(), load_candidate_network(release, torch.device("cpu"))
    assert network.attributes is not None
    groups = network.attributes.get_buffer("values_0").squeeze(1).tolist()
    odd = [int(vocabulary.item_ids([row])[0].split()[1]) % 2 for row in range(40)]
    assert len(set(zip(groups, odd, strict=True))) == 2
    Retriever.from_release(release, torch.device("cpu")).check_golden(release.golden_requests())
    Ranker.from_release(release, torch.device("cpu")).check_golden(release.golden_requests())


def test_ranking_on_watches_reads_the_features_that_are_asked_for(tmp_path: Path) -> None:
    write_planted_log(tmp_path / "log.csv")
    lines = [f"item {row},Title {row},{'odd' if row % 2 else 'even'}" for row in range(40)]
    (tmp_path / "items.csv").write_text("\n".join(["item_id,title,category", *lines]) + "\n")
    asked = ("category_watches", "popularity", "similarity")

    def train_with(features: tuple[str, ...]) -> RunResult:
        ranking = replace(TINY.ranking, epochs=1, features=features)
        settings = replace(TINY, candidate=replace(TINY.candidate, epochs=1), ranking=ranking)
        return train_planted(tmp_path, settings, items=True)

    release = open_release(tmp_path / "releases" / train_with(asked).release_id)
    network = load_ranking_network(release, torch.device("cpu"))
    assert network.features is not None
    assert [feature.name for feature in network.features.features] == [*asked]
    items = network.features.items
    assert {*items.categories.tolist()} == {0, 1}
    assert items.popularity.sum().item() == pytest.approx(1)
    # What ranking cannot read is refused before the candidate network is trained.
    with pytest.raises(ValueError, match="item_unclicked: only a log of impressions has what they read"):
        train_with(("item_unclicked",))


def test_what_trends_in_the_log_is_in_the_release(tmp_path: Path) -> None:
    release = open_release(tmp_path / "releases" / run_in(tmp_path, "releases").release_id)
    log = read_interactions(tmp_path / "log.csv", vocabulary_size=1_000, min_item_count=1)
    expected = trending_items(log.histories, len(log.vocabulary))
    assert len(expected.rows) > 0
    assert release.trending().rows.tolist() == expected.rows.tolist()


def test_an_approximate_index_is_tuned_on_every_held_out_history(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As far as there are some hundreds: sixteen, as many as there are golden requests, tell too little."""
    monkeypatch.setattr("winnow.index.choose.LARGEST_EXACT_TABLE", 0)
    result = run_in(tmp_path, "releases")
    index = open_release(tmp_path / "releases" / result.release_id).manifest.index
    assert (index.kind, index.tuned_on_query_count) == ("ivf", 80)


def test_a_release_says_which_impressions_ranking_learned_from(tmp_path: Path) -> None:
    write_planted_impressions(tmp_path)
    of_watches = open_release(tmp_path / "releases" / run_in(tmp_path, "releases").release_id)
    assert of_watches.manifest.training["impressions_sha256"] is None
    result = train_planted(tmp_path, impressions=True)
    of_impressions = open_release(tmp_path / "releases" / result.release_id)
    assert len(of_impressions.manifest.training["impressions_sha256"]) == 64


def test_nothing_is_written_when_the_log_is_unusable(tmp_path: Path) -> None:
    (tmp_path / "log.csv").write_text("user_id,item_id,timestamp\nu,i,soon\n")
    with pytest.raises(InputFileError, match="line 2"):
        run_in(tmp_path, "releases")
    assert [path.name for path in tmp_path.iterdir()] == ["log.csv"]


def test_figures_are_shown(tmp_path: Path) -> None:
    shown = StringIO()
    Console(file=shown, width=100).print(figures_table("test", run_in(tmp_path, "releases").figures["test"]))
    assert "HR@10" in shown.getvalue()
    assert "chain" in shown.getvalue()
