"""Base settings and search spaces."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from models.config import ConfigError
from pipeline.classifier.config import TrainClassifierConfig
from pipeline.gan.config import TrainGanConfig
from tests.tune.searches import search_config
from tune.settings import DEFAULT_SPACES, base_settings, load_search_space

CONF = Path(__file__).parents[2] / "conf"


@pytest.mark.parametrize("model, name", [("classifier", "search.yaml"), ("gan", "search-gan.yaml")])
def test_preset_equals_default_space(model: str, name: str) -> None:
    assert yaml.safe_load((CONF / name).read_text()) == DEFAULT_SPACES[model]


@pytest.mark.parametrize("model", ["classifier", "gan"])
def test_default_space_contains_default_settings(model: str) -> None:
    config = search_config(model=model)
    base = base_settings(config, {})
    space = load_search_space(config, None, base)
    assert list(space.dimensions) == list(DEFAULT_SPACES[model])
    assert space.contains(space.read(base)), "otherwise trial 0 would not have the defaults"


@pytest.mark.parametrize("key, value", [("refit", True), ("ensemble", 3)])
def test_base_with_several_runs_is_refused(key: str, value: object) -> None:
    with pytest.raises(ConfigError, match=rf"'{key}': a trial is one model .* --{key} to `train-classifier"):
        base_settings(search_config(), {key: value})


def test_pbt_does_not_tune_architecture() -> None:
    config = search_config(scheduler="pbt")
    base = base_settings(config, {})
    assert "model.channels" not in load_search_space(config, None, base).dimensions
    message = r"'model.channels' cannot be tuned with --scheduler pbt: it changes the architecture"
    with pytest.raises(ConfigError, match=message):
        load_search_space(config, {"model.channels": [[8], [16]]}, base)


def test_populations_do_not_tune_initial_weights() -> None:
    config = search_config(scheduler="pbt")
    message = r"'init_from' cannot be tuned with --scheduler pbt: its weights are loaded only at the start"
    with pytest.raises(ConfigError, match=message):
        load_search_space(config, {"init_from": [None, "run"]}, base_settings(config, {}))


@pytest.mark.parametrize("values", [{"model": {"arch": "timm:resnet18"}}, {"init_from": "run"}])
def test_default_space_keeps_sizes_of_given_networks(values: dict) -> None:
    config = search_config()
    space = load_search_space(config, None, base_settings(config, values))
    assert set(DEFAULT_SPACES["classifier"]) - set(space.dimensions) == {"model.channels"}


@pytest.mark.parametrize("key, choices", [("model.channels", [[8], [16]]), ("model.convs_per_block", [2, 4])])
def test_sizes_of_networks_of_timm_are_not_tuned(key: str, choices: list) -> None:
    config = search_config()
    base = base_settings(config, {"model": {"arch": "timm:resnet18"}})
    with pytest.raises(ConfigError, match=f"'{key}' cannot be tuned: timm:resnet18 has sizes of its own"):
        load_search_space(config, {key: choices}, base)


def test_sizes_are_tuned_where_some_networks_have_them() -> None:
    config = search_config()
    base = base_settings(config, {"model": {"arch": "timm:resnet18"}})
    values = {"model.arch": ["cnn", "timm:resnet18"], "model.channels": [[8], [16]]}
    assert set(load_search_space(config, values, base).dimensions) == set(values)


def test_pb2_tunes_numbers_only() -> None:
    config = search_config(scheduler="pb2")
    base = base_settings(config, {})
    message = r"'sampling' cannot be tuned with --scheduler pb2: pb2 needs numeric parameters"
    with pytest.raises(ConfigError, match=message):
        load_search_space(config, {"sampling": ["uniform", "balanced"]}, base)
    assert load_search_space(config, None, base).normalized


def test_search_settings_override_those_of_base() -> None:
    config = search_config(metric="val_loss", max_epochs=7, fold=3, seed=9, workers_per_trial=2)
    base = base_settings(config, {"label_smoothing": 0.05, "keep": "last", "epochs": 99})
    assert isinstance(base, TrainClassifierConfig)
    assert (base.monitor, base.keep, base.epochs) == ("val_loss", "best", 7)
    assert (base.fold, base.seed, base.workers) == (3, 9, 2)
    assert base.label_smoothing == 0.05


def test_gan_is_scored_every_grace_period() -> None:
    base = base_settings(search_config(model="gan", max_epochs=18), {"select_best": False})
    assert isinstance(base, TrainGanConfig)
    assert base.select_best
    assert base.sample_every == 2


def test_unknown_key_of_base_is_rejected() -> None:
    with pytest.raises(ConfigError, match=r"--base .*unknown key 'learning_rte'"):
        base_settings(search_config(), {"learning_rte": 1})


@pytest.mark.parametrize("values", [{"fold": 5}, {"num_folds": 5}, {"split_seed": 3}, {"val_split": [1, 5]}])
def test_base_with_another_split_is_refused(values: dict[str, object]) -> None:
    """Otherwise the clips that a fold of the base settings holds out would be searched on."""
    key = next(iter(values))
    with pytest.raises(ConfigError, match=rf"--base .*: '{key}' = .*: set by --.*; remove it there"):
        base_settings(search_config(), values)


def test_base_of_the_same_split_is_accepted(caplog: pytest.LogCaptureFixture) -> None:
    config = search_config(fold=3, num_folds=5)
    assert base_settings(config, {"fold": 3, "num_folds": 5, "val_split": None}).fold == 3
    assert not caplog.text
    base_settings(config, {"epochs": 99})
    assert "not used: epochs (set by --max-epochs)" in caplog.text
