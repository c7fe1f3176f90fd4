"""Search spaces: validation, and conversion of their values."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

from models.config import ConfigError
from pipeline.classifier.config import TrainClassifierConfig
from tune.dimensions import Choice, Range
from tune.parse_space import parse_space
from tune.space import SearchSpace

BASE = TrainClassifierConfig(shards=Path("shards"), run=Path("run"))


def make_space(**values: object) -> SearchSpace:
    """Return a space by keys with `__` instead of dots."""
    return parse_space({key.replace("__", "."): value for key, value in values.items()}, BASE, "space.yaml")


@pytest.mark.parametrize(
    "values, message",
    [
        ({}, "empty search space; add at least one key"),
        (
            {"learning_rte": {"low": 0.1, "high": 0.2}},
            "unknown key 'learning_rte'; did you mean 'learning_rate'?",
        ),
        ({"mixup": {"low": 0.1, "high": 0.2}}, "unknown key 'mixup'; did you mean 'mixup."),
        (
            {"learning_rate": {"low": 0.2, "high": 0.2}},
            "'learning_rate': empty range: low 0.2 must be less than high 0.2",
        ),
        ({"learning_rate": {"low": 0.3, "high": 0.2}}, "empty range: low 0.3 must be less than high 0.2"),
        ({"learning_rate": {"low": math.nan, "high": 0.2}}, "empty range"),
        ({"weight_decay": {"low": 0, "high": 0.2, "log": True}}, "log needs low > 0, not 0"),
        (
            {"mixup.rate": {"low": 0.5, "high": 1.5}},
            "'mixup.rate' = 1.5: input should be less than or equal to 1",
        ),
        ({"mixup.rate": {"low": 0.5}}, "'high': field required"),
        ({"mixup.rate": {"low": 0.5, "hgih": 1}}, "unknown key 'hgih'; did you mean 'high'?"),
        ({"mixup.rate": 0.5}, "must be a range {low: …, high: …} or a list of choices"),
        ({"mixup.rate": [0.5]}, "'mixup.rate': a single choice is nothing to search; set it in --base"),
        ({"mixup.rate": []}, "'mixup.rate': no choices; list two or more values"),
        (
            {"batch_size": {"low": 8.5, "high": 16}},
            "'batch_size': low 8.5 and high 16 must be whole numbers",
        ),
        (
            {"model": {"dropout": {"low": 0.1, "high": 0.2}}},
            "unknown key 'model'; keys of groups are written with dots, as in 'model.dropout: …'",
        ),
        ({"mixup.rate": {"low": 0, "high": 1, "integer": True}}, "'mixup.rate': unknown key 'integer'"),
        ({"mixup.rate": [0.5, 0.5]}, "duplicate choice"),
        (
            {"model.channels": [8, 16]},
            "'model.channels' = [8, 16]: each choice must be a list, as in model.channels: [[8, 16], […]]; "
            "to set the key to this list, write it in --base",
        ),
        ({"mixup.rate": [0.5, "5e-1"]}, "duplicate choice"),
        ({"batch_size": [8, 8.0]}, "duplicate choice"),
        ({"batch_size": [8, 8.5]}, "'batch_size' = 8.5: input should be a valid integer"),
        ({"model.norm": {"low": 0, "high": 1}}, "not numeric; use a list of choices instead of a range"),
        (
            {"model.norm": ["batch", "layer"]},
            "'model.norm' = 'layer': input should be 'batch', 'group' or 'sync'",
        ),
        ({"epochs": {"low": 1, "high": 9}}, "'epochs' cannot be tuned: it is set by --max-epochs"),
        ({"fold": [1, 2]}, "'fold' cannot be tuned: it is set by --fold"),
        ({"keep": ["best", "last"]}, "'keep' cannot be tuned: it is always best"),
        ({"log_to": [["tensorboard"], []]}, "'log_to' cannot be tuned: it is set by --log-to"),
        ({"workers": {"low": 1, "high": 9}}, "'workers' cannot be tuned: it is set by --workers-per-trial"),
    ],
)
def test_invalid_space_is_rejected_in_one_line(values: dict, message: str) -> None:
    with pytest.raises(ConfigError) as error:
        parse_space(values, BASE, "space.yaml")
    text = str(error.value)
    assert message in text
    assert text.startswith("space.yaml")
    assert "\n" not in text


def test_values_may_need_those_of_other_keys() -> None:
    space = make_space(freeze=[0, 3], init_from=["first", "second"])
    assert space.dimensions["freeze"].size() == 2
    with pytest.raises(ConfigError, match=r"--freeze 3 needs --init-from"):
        make_space(freeze=[0, 3], init_from=["first", None])
    with pytest.raises(ConfigError, match=r"--freeze 3 needs --init-from"):
        make_space(freeze=[0, 3], init_from=["first", None, "second"])
    # What other keys reject among themselves says nothing about this one.
    other = {"schedule": ["plateau", "cosine"], "swa_fraction": [0.0, 0.3]}
    make_space(freeze=[0, 3], init_from=["first", "second"], **other)


def test_params_override_settings_at_dotted_keys() -> None:
    space = make_space(
        learning_rate={"low": "1e-4", "high": 1e-2, "log": True},
        mixup__rate={"low": 0, "high": 1},
        model__channels=[[8], [16, 32]],
    )
    params = {"learning_rate": 5e-3, "mixup.rate": 0.25, "model.channels": [16, 32]}
    settings = BASE.with_overrides(params)
    assert (settings.learning_rate, settings.mixup.rate, settings.model.channels) == (5e-3, 0.25, (16, 32))
    assert (settings.mixup.alpha, settings.shards) == (BASE.mixup.alpha, BASE.shards)
    assert space.read(settings) == params


def test_space_contains_values_in_all_dimensions() -> None:
    space = make_space(mixup__rate={"low": 0, "high": 1}, model__channels=[[8], [16, 32]])
    params = {"mixup.rate": 0.25, "model.channels": [16, 32]}
    assert space.contains(params)
    assert not space.contains(params | {"model.channels": [9]})
    assert not space.contains(params | {"mixup.rate": 1.1})


@pytest.mark.parametrize("normalized", [False, True])
def test_encoded_params_decode_to_same_values(normalized: bool) -> None:
    dimensions = make_space(
        learning_rate={"low": 1e-4, "high": 1e-2, "log": True},
        batch_size={"low": 16, "high": 128},
        model__channels=[[8], [16, 32]],
    ).dimensions
    space = SearchSpace(dimensions, normalized)
    decoded = space.decode(
        space.encode({"learning_rate": 3e-3, "batch_size": 20, "model.channels": [16, 32]})
    )
    assert (decoded["batch_size"], decoded["model.channels"]) == (20, [16, 32])
    assert isinstance(decoded["batch_size"], int)
    assert math.isclose(decoded["learning_rate"], 3e-3)


def test_log_range_maps_positions_on_log_scale() -> None:
    log_range = Range(low=1e-4, high=1e-2, log=True)
    assert log_range.to_unit(1e-3) == pytest.approx(0.5)
    assert log_range.from_unit(0.25) == pytest.approx(10**-3.5)


def test_range_clips_positions_and_values() -> None:
    log_range = Range(low=1e-4, high=1e-2, log=True)
    assert log_range.from_unit(-1) == pytest.approx(1e-4)
    assert log_range.from_unit(2) == pytest.approx(1e-2)
    assert log_range.to_value(5.0) == 1e-2


def test_log_range_samples_log_uniformly() -> None:
    log_range = Range(low=1e-4, high=1e-2, log=True)
    samples = np.array([log_range.sample(np.random.default_rng(seed)) for seed in range(200)])
    assert 0.35 < np.mean(samples < 1e-3) < 0.65


def test_choice_samples_all_choices() -> None:
    choice = Choice(choices=("batch", "group"))
    assert {choice.sample(np.random.default_rng(seed)) for seed in range(20)} == {"batch", "group"}


def test_range_of_integer_key_rounds_values() -> None:
    space = make_space(batch_size={"low": 16, "high": 128})
    dimension = space.dimensions["batch_size"]
    assert isinstance(dimension, Range)
    assert dimension.integer
    assert space.decode({"batch_size": 17.6}) == {"batch_size": 18}


@pytest.mark.parametrize(
    ("key", "choices", "values"),
    [
        ("learning_rate", ["1e-3", "4e-3"], (0.001, 0.004)),
        ("batch_size", ["16", 32.0], (16, 32)),
        ("class_weights", ["yes", "off"], (True, False)),
        ("model.channels", [["8"], [16.0, 32]], ([8], [16, 32])),
        ("sampling", ["uniform", "balanced"], ("uniform", "balanced")),
    ],
)
def test_choices_are_values_of_the_settings(key: str, choices: list, values: tuple) -> None:
    dimension = parse_space({key: choices}, BASE, "space.yaml").dimensions[key]
    assert isinstance(dimension, Choice)
    assert dimension.choices == values
    assert [type(choice) for choice in dimension.choices] == [type(value) for value in values]


def test_size_of_space_counts_different_settings() -> None:
    channels = [[8], [16, 32]]
    assert make_space(model__channels=channels).size() == 2
    assert make_space(model__channels=channels, batch_size={"low": 16, "high": 18}).size() == 6
    assert make_space(model__channels=channels, mixup__rate={"low": 0, "high": 1}).size() == math.inf
    assert make_space(model__embedding_dim={"low": 1, "high": 10**12}).size() == 10**12
