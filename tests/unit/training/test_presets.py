from dataclasses import replace

import pytest

from tests.unit.training.settings import TINY
from winnow.networks.options import CandidateOptions
from winnow.training.presets import PRESETS, stated


def test_a_run_is_named_by_what_is_not_default() -> None:
    settings = stated(replace(TINY.candidate, options=CandidateOptions(linear_skip=True, example_age=True)))
    assert settings["options"] == {"linear_skip": True, "example_age": True}
    assert settings["embedding_dim"] == 16
    assert "log_q" not in settings
    assert stated(TINY.candidate)["options"]["history"]["watch_features"] == {"gap_edges_seconds": [2.0, 60.0]}


@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_limits_the_history(name: str) -> None:
    assert PRESETS[name].candidate.history_length > 0


def test_training_on_unlimited_histories_is_refused() -> None:
    with pytest.raises(ValueError, match="history_length is None"):
        _ = replace(TINY.candidate, options=CandidateOptions()).history_length
