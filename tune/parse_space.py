"""Parsing of a search space: dotted keys of the training settings, each with a range or a list of choices.

learning_rate: {low: 0.0005, high: 0.008, log: true}
model.channels: [[16, 32, 64, 128], [32, 64, 128, 256]]
"""

from __future__ import annotations

import contextlib
import difflib
from collections.abc import Mapping, Sequence
from typing import Any, get_args, get_origin

from models.config import ConfigError, flat_values, leaf_fields
from pipeline.distributed.resource_config import ResourceConfig
from pipeline.training.config import TrainingConfig
from tune.dimensions import Choice, IntegerRange, Range
from tune.space import SearchSpace

# Keys that cannot be tuned, and the reason: set by the search, or without effect on training.
FIXED_KEYS = {
    "epochs": "set by --max-epochs",
    "monitor": "set by --metric",
    "multi_label": "set in --base",
    "refit": "for the run of the result, as trials need validation clips",
    "ensemble": "for the run of the result, as a trial is one model",
    "seed": "set by --seed",
    "split_seed": "set by --seed",
    "fold": "set by --fold",
    "num_folds": "set by --num-folds",
    "val_fraction": "set by --val-fraction",
    "val_split": "set by --inner-folds",
    "shards": "set by --shards",
    "run": "set by --run",
    "keep": "always best",
    "extra_shards": "set in --base",
    "log_to": "set by --log-to",
    "sample_every": "set in --base",
    "samples_per_class": "set in --base",
    "select_best": "always true",
    "data_placement": "set in --base",
    "checkpoint_minutes": "set in --base",
    **dict.fromkeys(ResourceConfig.model_fields, "set by --workers-per-trial and similar flags"),
}


def parse_space(values: Mapping[str, Any], base: TrainingConfig, source: str) -> SearchSpace:
    """Parse a search space and validate it with the settings that it changes.

    Args:
        values: content of a YAML file.
        base: settings of the training runs.
        source: name of the file, for messages.

    Raises:
        ConfigError: an unknown or fixed key, an empty range, or values that the key's field rejects.
    """
    if not values:
        raise ConfigError(
            f"{source}: empty search space; add at least one key with a range, such as "
            "learning_rate: {low: 0.0005, high: 0.008}"
        )
    fields = leaf_fields(type(base))
    parsed: dict[str, Range | Choice] = {}
    for key, value in values.items():
        if key in FIXED_KEYS:
            raise ConfigError(f"{source}: '{key}' cannot be tuned: it is {FIXED_KEYS[key]}")
        if key not in fields:
            raise ConfigError(f"{source}: unknown key '{key}'; {_hint(key, value, fields)}")
        _check_lists(key, value, fields[key].annotation, source)
        parsed[key] = _parse_dimension(key, value, _numeric_type(fields[key].annotation), source)
    dimensions = {}
    for key, dimension in parsed.items():
        others = {other: _values_to_check(parsed[other]) for other in parsed if other != key}
        dimensions[key] = _validate_values(base, key, dimension, _combinations(others), source)
    return SearchSpace(dimensions)


def _values_to_check(dimension: Range | Choice) -> Sequence[Any]:
    """Return both ends of a range, or all choices."""
    if isinstance(dimension, Range):
        return dimension.to_value(dimension.low), dimension.to_value(dimension.high)
    return dimension.choices


def _combinations(values: Mapping[str, Sequence[Any]]) -> list[dict[str, Any]]:
    """Return the last values of all keys, and the first ones with each value of one key."""
    first = {key: of_key[0] for key, of_key in values.items()}
    last = {key: of_key[-1] for key, of_key in values.items()}
    return [first, last, *(first | {key: value} for key, of_key in values.items() for value in of_key[1:])]


def _hint(key: str, value: Any, fields: Mapping[str, Any]) -> str:
    """Return what to write instead of an unknown key."""
    tunable = sorted(set(fields) - set(FIXED_KEYS))
    nested = [f"{key}.{name}" for name in value] if isinstance(value, dict) else []
    if any(name in fields for name in nested):
        return f"keys of groups are written with dots, as in '{nested[0]}: …'"
    matches = difflib.get_close_matches(key, tunable, n=1, cutoff=0.5)
    return f"did you mean '{matches[0]}'?" if matches else f"known keys: {', '.join(tunable)}"


def _check_lists(key: str, value: Any, annotation: Any, source: str) -> None:
    """Check that the choices of a setting that holds a list, such as `model.channels`, are lists.

    Raises:
        ConfigError: they are the items of one.
    """
    choices = value.get("choices") if isinstance(value, dict) else value
    is_list = any(get_origin(part) is tuple for part in (annotation, *get_args(annotation)))
    if (
        is_list
        and isinstance(choices, list)
        and any(isinstance(choice, int | float | str) for choice in choices)
    ):
        raise ConfigError(
            f"{source}: '{key}' = {choices}: each choice must be a list, as in {key}: [{choices}, […]]; to "
            "set the key to this list, write it in --base"
        )


def _parse_dimension(key: str, value: Any, number_type: type | None, source: str) -> Range | Choice:
    prefix = f"{source}: '{key}'"
    if isinstance(value, list):
        value = {"choices": value}
    if not isinstance(value, dict):
        raise ConfigError(f"{prefix} = {value!r}: must be a range {{low: …, high: …}} or a list of choices")
    if "choices" in value:
        if value["choices"] == []:
            raise ConfigError(f"{prefix}: no choices; list two or more values, or remove the key")
        if isinstance(value["choices"], list) and len(value["choices"]) == 1:
            raise ConfigError(f"{prefix}: a single choice is nothing to search; set it in --base instead")
        return Choice.parse(value, prefix)
    if number_type is None:
        raise ConfigError(f"{prefix}: not numeric; use a list of choices instead of a range")
    return (IntegerRange if number_type is int else Range).parse(value, prefix)


def _numeric_type(annotation: Any) -> type | None:
    """Return `int` or `float` if a field holds such numbers, also if it may be None."""
    types = [annotation, *getattr(annotation, "__args__", ())]
    return next((number_type for number_type in (int, float) if number_type in types), None)


def _validate_values(
    base: TrainingConfig,
    key: str,
    dimension: Range | Choice,
    others: Sequence[Mapping[str, Any]],
    source: str,
) -> Range | Choice:
    """Validate both ends of a range, or all choices, against the training settings.

    Args:
        base: settings of the training runs.
        key: dotted key of the dimension.
        dimension: the values.
        others: values of the other keys of the space, with which a value may be valid that is not with those
            of `base`, as stages to freeze need a run to start from; it must be valid with all of them.
        source: name of the file, for messages.

    Returns:
        The dimension with choices as the settings hold them: `"1e-3"` as a number, `8.0` as an integer.
    """
    if isinstance(dimension, Range):
        for end in _values_to_check(dimension):
            _setting(base, key, end, others, source)
        return dimension
    choices = [_setting(base, key, choice, others, source) for choice in dimension.choices]
    return Choice.parse({"choices": choices}, f"{source}: '{key}'")


def _setting(
    base: TrainingConfig, key: str, value: Any, others: Sequence[Mapping[str, Any]], source: str
) -> Any:
    """Return a value as the training settings hold it.

    Raises:
        ConfigError: they reject it, and do so with some values of the other keys too.
    """
    try:
        return flat_values(base.with_overrides({key: value}).to_dict())[key]
    except ConfigError as error:
        found: list[Any] = []
        for values in others:
            try:
                found.append(flat_values(base.with_overrides({**values, key: value}).to_dict())[key])
            except ConfigError as other_error:
                if _is_valid(base, values):  # else it is not this key that they reject
                    raise ConfigError(f"{source}: {other_error}") from None
        if found:
            return found[0]
        raise ConfigError(f"{source}: {error}") from None


def _is_valid(base: TrainingConfig, values: Mapping[str, Any]) -> bool:
    with contextlib.suppress(ConfigError):
        base.with_overrides(dict(values))
        return True
    return False
