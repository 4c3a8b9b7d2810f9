"""Settings of a training run from a TOML file, on top of a preset."""

import json
import math
import tomllib
from collections.abc import Mapping
from dataclasses import fields, is_dataclass, replace
from difflib import get_close_matches
from pathlib import Path
from types import UnionType
from typing import Any, get_args, get_type_hints

from pydantic import TypeAdapter, ValidationError

from winnow.logs.split import SPLITS
from winnow.training.presets import TrainingSettings

# Numbers that may be 0. All others are at least 1 where they are integers, and above 0 where they are not.
MAY_BE_ZERO = {
    "seed", "n_hidden_layers", "signed_bags", "examples_per_user", "latest_count", "feature_dropout", "dropout",
    "held_back_share", "weight_decay", "embedding_decay", "shuffled_copies", "patience",
}  # fmt: skip
# Numbers below 1.
SHARES = {"feature_dropout", "dropout", "held_back_share", "validation_share", "test_share"}


class SettingsError(ValueError):
    """A settings file cannot be used; the message names the file and the setting."""


def read_settings(path: Path, preset: TrainingSettings) -> TrainingSettings:
    """Return the preset with the settings of a file, whose tables are the fields of TrainingSettings.

    Raises SettingsError for a setting that there is not, and for a value that it cannot have.
    """
    try:
        with path.open("rb") as file:
            given = tomllib.load(file)
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SettingsError(f"{path} is not TOML: {error}") from None
    try:
        return with_settings(preset, given)
    except ValueError as error:
        raise SettingsError(f"{path}: {error}") from None


def with_settings(preset: TrainingSettings, given: Mapping[str, Any]) -> TrainingSettings:
    """Return the preset with other values, in tables as in a file. Raises ValueError that names the setting."""
    changed: TrainingSettings = _changed(preset, given, "")
    if changed.split not in SPLITS:
        raise ValueError(f"split is {changed.split!r}: it is one of {', '.join(SPLITS)}")
    return changed


def _changed(settings: Any, given: Mapping[str, Any], prefix: str) -> Any:
    """Return a dataclass with other values. Raises ValueError that names the setting."""
    types = get_type_hints(type(settings))
    names = [field.name for field in fields(settings)]
    values = {}
    for name, value in given.items():
        full_name = prefix + name
        if name not in names:
            near = get_close_matches(name, names, n=1)
            hint = f"did you mean {prefix}{near[0]}?" if near else f"there are {', '.join(names)}"
            raise ValueError(f"there is no setting {full_name}; {hint}")
        current = getattr(settings, name)
        if is_dataclass(current) and isinstance(value, Mapping):
            values[name] = _changed(current, value, f"{full_name}.")
        else:
            values[name] = _checked(types[name], name, value, full_name)
    try:
        return replace(settings, **values)
    except ValueError as error:
        raise ValueError(f"{prefix.rstrip('.')}: {error}" if prefix else str(error)) from None


def _checked(type_: Any, name: str, value: Any, full_name: str) -> Any:
    """Return a value of the type of a setting."""
    if isinstance(value, Mapping) and _dataclass_in(type_) is not None:
        unknown = [key for key in value if key not in {field.name for field in fields(_dataclass_in(type_))}]
        if unknown:
            raise ValueError(f"there is no setting {full_name}.{unknown[0]}")
    try:
        # As JSON, an array is a tuple and an integer may stand for a float, but nothing else is converted.
        checked = TypeAdapter(type_).validate_json(json.dumps(value), strict=True)
    except (ValidationError, TypeError) as error:
        reason = f"{full_name}: {error}"
        if isinstance(error, ValidationError):
            first = error.errors()[0]
            reason = ".".join(map(str, [full_name, *first["loc"]])) + f": {first['msg']}"
        raise ValueError(reason) from None
    if isinstance(checked, int | float) and not isinstance(checked, bool):
        smallest = 0 if name in MAY_BE_ZERO or isinstance(checked, float) else 1
        if not smallest <= checked < (1 if name in SHARES else math.inf) or (checked == 0 and name not in MAY_BE_ZERO):
            limits = "0 or more" if name in MAY_BE_ZERO else "more than 0"
            raise ValueError(f"{full_name} is {value}: it has to be {limits}{', below 1' if name in SHARES else ''}")
    return checked


def _dataclass_in(type_: Any) -> Any:
    """Return the dataclass that a type is, or that it is unless it is None."""
    parts = get_args(type_) if isinstance(type_, UnionType) else (type_,)
    return next((part for part in parts if is_dataclass(part)), None)
