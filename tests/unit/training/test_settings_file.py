"""A TOML file says what differs from a preset."""

from pathlib import Path

import pytest

from winnow.networks.watch_features import WatchFeatures
from winnow.training.presets import DEMO, KUAIRAND, PRESETS, TrainingSettings
from winnow.training.settings_file import SettingsError, read_settings


def read(directory: Path, text: str, preset: TrainingSettings = DEMO) -> TrainingSettings:
    path = directory / "settings.toml"
    path.write_text(text)
    return read_settings(path, preset)


def test_an_empty_file_changes_nothing(tmp_path: Path) -> None:
    for preset in PRESETS.values():
        assert read(tmp_path, "", preset) == preset


def test_settings_of_every_depth(tmp_path: Path) -> None:
    found = read(
        tmp_path,
        """
        min_item_count = 2
        precision = "float32"
        [candidate]
        learning_rate = 1
        attribute_columns = ["genres", "author"]
        [candidate.options]
        embedding_std = 0.1
        [candidate.options.history]
        history_length = 20
        bag_decays = [0, 0.5]
        [candidate.options.history.watch_features]
        gap_edges_seconds = [10, 60.0]
        [ranking]
        epochs = 1
        """,
    )
    history = found.candidate.options.history
    assert (found.min_item_count, found.precision, found.ranking.epochs) == (2, "float32", 1)
    assert (found.candidate.learning_rate, found.candidate.attribute_columns) == (1.0, ("genres", "author"))
    assert (history.history_length, history.bag_decays) == (20, (0.0, 0.5))
    assert history.watch_features == WatchFeatures(gap_edges_seconds=(10.0, 60.0))
    assert found.candidate.options.linear_skip == DEMO.candidate.options.linear_skip
    assert found.candidate.epochs == DEMO.candidate.epochs


def test_what_a_preset_has_not_can_be_added(tmp_path: Path) -> None:
    text = "[candidate.options.history.watch_features]\ngap_edges_seconds = [1.0]\n"
    found = read(tmp_path, text, PRESETS["order"])
    assert found.candidate.options.history.watch_features == WatchFeatures(gap_edges_seconds=(1.0,))
    assert KUAIRAND.impressions is not None
    changed = read(tmp_path, '[impressions]\nobjective = "click"\n', KUAIRAND).impressions
    assert changed is not None
    assert (changed.objective, changed.epochs) == ("click", KUAIRAND.impressions.epochs)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("candidate = ", "settings.toml is not TOML: "),
        ("[candidate]\nepoch = 3", r"there is no setting candidate.epoch; did you mean candidate.epochs\?"),
        ("colour = 3", "there is no setting colour; there are vocabulary_size, min_item_count, candidate, "),
        ("[candidate]\nepochs = 0", "candidate.epochs is 0: it has to be more than 0"),
        ("[candidate]\nepochs = -1", "candidate.epochs is -1: it has to be more than 0"),
        ("[candidate]\nepochs = 1.5", "candidate.epochs: Input should be a valid integer"),
        ("[candidate]\nepochs = true", "candidate.epochs: Input should be a valid integer"),
        ('[candidate]\nepochs = "3"', "candidate.epochs: Input should be a valid integer"),
        ("[candidate]\nlearning_rate = nan", "candidate.learning_rate"),
        ("[candidate]\nlearning_rate = inf", "candidate.learning_rate"),
        ("[candidate]\ndropout = 1.0", "candidate.dropout is 1.0: it has to be 0 or more, below 1"),
        ("[candidate]\nepochs = 2026-01-01", "candidate.epochs: .*not JSON serializable"),
        ("candidate = 3", "candidate: "),
        ('[candidate]\nsoftmax = "exact"', "candidate.softmax: Input should be 'auto', 'full' or 'sampled'"),
        ('split = "random"', "split is 'random': it is one of leave-last-out, global-time"),
        ("[candidate.options.history]\nsigned_bags = 9", "candidate.options.history: signed_bags is 9"),
        ("[candidate.options.history]\nbags = 9", "there is no setting candidate.options.history.bags"),
        ("[impressions]\nepochs = 2", "impressions.hidden_dim: Field required"),
    ],
)
def test_what_cannot_be_is_named(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        read(tmp_path, text)
