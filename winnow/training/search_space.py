"""What `winnow tune` changes, and between which limits."""

import json
from collections.abc import Iterator, Mapping
from itertools import groupby
from typing import Any

from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution

from winnow.training.presets import TrainingSettings
from winnow.training.settings_file import with_settings

Value = str | int | float | bool

DIMENSION = "candidate.embedding_dim"
# The smallest and the largest, and whether factors count rather than differences.
LIMITS = {
    "candidate.learning_rate": (5e-4, 1e-2, True),
    "candidate.dropout": (0.0, 0.8, False),
    "ranking.learning_rate": (2e-4, 5e-3, True),
}
# Settings that have to be, or are best, of the same value.
SAME = {DIMENSION: ("candidate.hidden_dim", "ranking.embedding_dim")}


def search_space(basis: TrainingSettings) -> dict[str, BaseDistribution]:
    """Return the range of every setting that is searched, by its full name; what `basis` has lies within it."""
    choices: dict[str, tuple[int, ...]] = {
        DIMENSION: (32, 64, 128),
        "candidate.n_hidden_layers": (0, 1, 2),
        "candidate.options.history.history_length": (16, 32, 50, 100),
        "candidate.chunks_per_batch": tuple(
            max(1, round(basis.candidate.chunks_per_batch * factor)) for factor in (0.5, 1, 2)
        ),
        "ranking.latest_count": (0, 5),
        "ranking.examples_per_user": (5, 10, 20),
    }
    if basis.candidate.shuffled_copies:
        choices["candidate.shuffled_copies"] = (0, 1, 3, 6)
    ranges: dict[str, BaseDistribution] = {}
    for name, (low, high, log) in LIMITS.items():
        own = float(_value(basis, name))
        ranges[name] = FloatDistribution(min(low, own), max(high, own), log=log)
    for name, numbers in choices.items():
        ranges[name] = CategoricalDistribution(sorted({*numbers, int(_value(basis, name))}))
    return ranges


def values_of(basis: TrainingSettings) -> Mapping[str, Value]:
    """Return what the settings have of all that is searched."""
    return {name: _value(basis, name) for name in search_space(basis)}


def with_values(basis: TrainingSettings, values: Mapping[str, Value]) -> TrainingSettings:
    """Return the settings with other values, by their full names."""
    given: dict[str, Any] = {}
    for name, value in _all_values(values):
        *tables, last = name.split(".")
        inner = given
        for table in tables:
            inner = inner.setdefault(table, {})
        inner[last] = value
    return with_settings(basis, given)


def as_toml(values: Mapping[str, Value]) -> str:
    """Return the values as a file that `winnow train --settings` reads."""
    lines = sorted((*name.rpartition(".")[::2], json.dumps(value)) for name, value in _all_values(values))
    # JSON numbers, booleans and ASCII strings are TOML, too.
    return "\n".join(
        f"[{table}]\n" + "".join(f"{name} = {value}\n" for _, name, value in of_table)
        for table, of_table in groupby(lines, key=lambda line: line[0])
    )


def _all_values(values: Mapping[str, Value]) -> Iterator[tuple[str, Value]]:
    for name, value in values.items():
        yield name, value
        for other in SAME.get(name, ()):
            yield other, value


def _value(settings: TrainingSettings, name: str) -> Value:
    found: Any = settings
    for part in name.split("."):
        found = getattr(found, part)
    value: Value = found
    return value
