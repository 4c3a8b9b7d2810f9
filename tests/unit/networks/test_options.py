"""Options are checked where they are made, come back from JSON, and need no torch."""

import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from pydantic import TypeAdapter, ValidationError

from winnow.networks.options import (
    AttributeShape,
    CandidateConfig,
    CandidateOptions,
    HistoryOptions,
    MatchingOptions,
    NeighbourOptions,
    RankingConfig,
    RankingOptions,
    SuccessionOptions,
)
from winnow.networks.watch_features import WatchFeatures

FEATURES = WatchFeatures(weight_edges=(2.0, 4.0), gap_edges_seconds=(1.0, 60.0))
HISTORY = HistoryOptions(history_length=5, bag_decays=(0.0, 0.3), bag_lags=(0,), signed_bags=1, watch_features=FEATURES)
CANDIDATE = CandidateConfig(
    20,
    6,
    6,
    2,
    1,
    CandidateOptions(
        history=HISTORY,
        linear_skip=True,
        embedding_std=0.05,
        tied_tables=True,
        attributes=(AttributeShape(value_count=3, values_per_item=2),),
        attribute_dim=4,
        example_age=True,
    ),
)
SUCCESSIONS = SuccessionOptions(pair_count=100, latest_count=3)
NEIGHBOURS = NeighbourOptions(neighbour_count=100, latest_count=20, recency_decay=0.8)
RANKING = RankingConfig(
    20,
    6,
    4,
    2,
    2,
    RankingOptions(
        history=replace(HISTORY, history_length=3),
        matching=MatchingOptions(network=CANDIDATE, successions=SUCCESSIONS, neighbours=(NEIGHBOURS,)),
        features=("popularity",),
        score="watch_seconds",
    ),
)


@pytest.mark.parametrize("config", [CANDIDATE, RANKING, RankingConfig(20, 6, 4, 2, 2)])
def test_a_config_comes_back_from_json(config: CandidateConfig | RankingConfig) -> None:
    adapter = TypeAdapter(type(config))
    assert adapter.validate_json(adapter.dump_json(config)) == config


def test_what_is_invalid_in_json_is_refused_with_its_place() -> None:
    config = TypeAdapter(CandidateConfig).dump_python(CANDIDATE, mode="json")
    config["options"]["history"]["signed_bags"] = 4
    with pytest.raises(ValidationError) as failure:
        TypeAdapter(CandidateConfig).validate_python(config)
    [error] = failure.value.errors()
    assert error["loc"] == ("options", "history")
    assert "signed_bags is 4: it counts some of 3 bags" in error["msg"]


def test_sizes_follow_from_the_options() -> None:
    assert HISTORY.bag_count == 3
    assert CANDIDATE.summary_dim == 3 * (6 + 4)
    assert RANKING.summary_dim == 3 * 6
    assert CandidateConfig(20, 6, 4, 2, 1).summary_dim == RankingConfig(20, 6, 4, 2, 1).summary_dim == 6


@pytest.mark.parametrize(
    ("own", "matching", "expected"), [(None, None, None), (3, None, 3), (3, 2, 3), (1, 2, 2), (None, 2, None)]
)
def test_the_history_length_covers_every_part(own: int | None, matching: int | None, expected: int | None) -> None:
    def reading(length: int | None) -> HistoryOptions:
        return HistoryOptions(history_length=length)

    candidate = CandidateConfig(20, 6, 4, 2, 1, CandidateOptions(history=reading(matching)))
    inside = None if matching is None else MatchingOptions(network=candidate)
    options = RankingOptions(history=reading(own), matching=inside)
    assert RankingConfig(20, 6, 4, 2, 1, options).history_length == expected


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: HistoryOptions(history_length=0), "history_length is 0"),
        (lambda: HistoryOptions(bag_decays=(0.0,)), "history_length is None: bag_decays needs a history of limited"),
        (lambda: HistoryOptions(bag_lags=(0,)), "history_length is None: bag_lags needs a history of limited"),
        (lambda: HistoryOptions(watch_features=FEATURES), "watch_features needs a history of limited length"),
        (lambda: HistoryOptions(history_length=3, bag_decays=()), "bag_decays is empty"),
        (lambda: replace(HISTORY, bag_lags=(5,)), r"bag_lags are \[5\]: they lie in \[0, 5\)"),
        (lambda: replace(HISTORY, signed_bags=4), "signed_bags is 4: it counts some of 3 bags"),
        (lambda: replace(HISTORY, watch_features=None), "signed_bags is 1: it counts some of 3 bags with watch_feat"),
        (lambda: WatchFeatures(weight_edges=(2, 2)), "weight_edges do not rise"),
        (lambda: CandidateOptions(attributes=CANDIDATE.options.attributes), "history_length is None: attributes"),
        (lambda: CandidateOptions(attribute_dim=0), "attribute_dim is 0"),
        (lambda: AttributeShape(value_count=3, values_per_item=0), "values_per_item is 0"),
        (lambda: replace(CANDIDATE, hidden_dim=4), "hidden_dim is 4: with tied_tables it has to be embedding_dim, 6"),
        (lambda: SuccessionOptions(pair_count=1, latest_count=0), "latest_count is 0"),
        (
            lambda: MatchingOptions(network=CANDIDATE, adds_logit=False, successions=SUCCESSIONS),
            "adds_logit is False: successions correct that logit",
        ),
        (lambda: replace(NEIGHBOURS, latest_count=0), "latest_count is 0"),
        (lambda: replace(NEIGHBOURS, recency_decay=1.5), r"recency_decay is 1.5: it lies in \(0, 1\]"),
        (
            lambda: MatchingOptions(network=CANDIDATE, adds_logit=False, neighbours=(NEIGHBOURS,)),
            "adds_logit is False: neighbours are added to that logit",
        ),
        (lambda: replace(RANKING, n_items=21), "matching is a network of 20 items, not of 21"),
        (
            lambda: replace(RANKING, options=RankingOptions(matching=RANKING.options.matching)),
            "matching has other watch_features",
        ),
        (lambda: RankingOptions(score="odds"), "score is 'odds': it is one of probability, watch_seconds"),  # type: ignore[arg-type]
    ],
)
def test_an_invalid_option_is_named(make: Callable[[], Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()


def test_options_are_known_without_torch() -> None:
    script = "import sys, winnow.release.manifest; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0
