"""A search space: what it refuses, and how its values become settings."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import yaml

from models.config import ConfigError
from pipeline.classifier.config import TrainClassifierConfig
from pipeline.gan.config import TrainGanConfig
from tune.config import SearchConfig
from tune.space import Range, SearchSpace, parse_space
from tune.trial.spec import SPACES, base_settings, load_search_space

BASE = TrainClassifierConfig(shards=Path("shards"), run=Path("run"))
CONF = Path(__file__).parents[2] / "conf"


def space(**values: object) -> SearchSpace:
    return parse_space({key.replace("__", "."): value for key, value in values.items()}, BASE, "space.yaml")


@pytest.mark.parametrize(
    "values, fault",
    [
        ({}, "an empty space: name at least one key"),
        (
            {"learning_rte": {"low": 0.1, "high": 0.2}},
            "unknown key 'learning_rte'; did you mean 'learning_rate'?",
        ),
        ({"mixup": {"low": 0.1, "high": 0.2}}, "unknown key 'mixup'; did you mean 'mixup."),
        (
            {"learning_rate": {"low": 0.2, "high": 0.2}},
            "'learning_rate': an empty range: low 0.2 must be less than high 0.2",
        ),
        ({"learning_rate": {"low": 0.3, "high": 0.2}}, "an empty range: low 0.3 must be less than high 0.2"),
        ({"learning_rate": {"low": math.nan, "high": 0.2}}, "an empty range"),
        ({"weight_decay": {"low": 0, "high": 0.2, "log": True}}, "log needs low > 0, not 0"),
        (
            {"mixup.rate": {"low": 0.5, "high": 1.5}},
            "'mixup.rate' = 1.5: input should be less than or equal to 1",
        ),
        ({"mixup.rate": {"low": 0.5}}, "'high': field required"),
        ({"mixup.rate": {"low": 0.5, "hgih": 1}}, "unknown key 'hgih'; did you mean 'high'?"),
        ({"mixup.rate": 0.5}, "must be a range {low: …, high: …} or a list of choices"),
        ({"mixup.rate": [0.5]}, "'choices' = [0.5]: "),
        ({"mixup.rate": [0.5, 0.5]}, "a choice stands twice"),
        ({"model.norm": {"low": 0, "high": 1}}, "takes a list of choices, not a range"),
        ({"model.norm": ["batch", "layer"]}, "'model.norm' = 'layer': input should be 'batch' or 'group'"),
        ({"epochs": {"low": 1, "high": 9}}, "'epochs' can't be searched: it is set by --max-epochs"),
        ({"fold": [1, 2]}, "'fold' can't be searched: it is set by --fold"),
        ({"workers": {"low": 1, "high": 9}}, "'workers' can't be searched"),
    ],
)
def test_what_cannot_be_searched_is_told_in_a_line(values: dict, fault: str) -> None:
    with pytest.raises(ConfigError) as error:
        parse_space(values, BASE, "space.yaml")
    assert (
        fault in str(error.value)
        and "\n" not in str(error.value)
        and str(error.value).startswith("space.yaml")
    )


def test_values_become_settings_at_their_dotted_keys() -> None:
    one = space(
        learning_rate={"low": "1e-4", "high": 1e-2, "log": True},
        mixup__rate={"low": 0, "high": 1},
        model__channels=[[8], [16, 32]],
    )
    values = {"learning_rate": 5e-3, "mixup.rate": 0.25, "model.channels": [16, 32]}
    changed = BASE.with_overrides(values)
    assert (changed.learning_rate, changed.mixup.rate, changed.model.channels) == (5e-3, 0.25, (16, 32))
    assert changed.mixup.alpha == BASE.mixup.alpha and changed.shards == BASE.shards
    assert one.read(changed) == values
    assert (
        one.contains(values)
        and not one.contains(values | {"model.channels": [9]})
        and not one.contains(values | {"mixup.rate": 1.1})
    )


def test_what_a_searcher_sees_comes_back_as_the_same_values() -> None:
    one = space(
        learning_rate={"low": 1e-4, "high": 1e-2, "log": True},
        batch_size={"low": 16, "high": 128},
        model__channels=[[8], [16, 32]],
    )
    values = {"learning_rate": 3e-3, "batch_size": 20, "model.channels": [16, 32]}
    for seen in (one, SearchSpace(one.dimensions, unit=True)):
        back = seen.decode(seen.encode(values))
        assert (back["batch_size"], back["model.channels"]) == (20, [16, 32]) and isinstance(
            back["batch_size"], int
        )
        assert math.isclose(back["learning_rate"], 3e-3)


def test_the_place_in_a_logarithmic_range_is_that_of_the_logarithm() -> None:
    one = Range(low=1e-4, high=1e-2, log=True)
    assert one.to_unit(1e-3) == pytest.approx(0.5)
    assert one.from_unit(0.25) == pytest.approx(10**-3.5)
    assert one.from_unit(-1) == pytest.approx(1e-4) and one.from_unit(2) == pytest.approx(1e-2)
    assert one.to_value(5.0) == 1e-2  # never outside, whatever a searcher says
    drawn = [one.draw(np.random.default_rng(seed)) for seed in range(200)]
    assert 0.35 < np.mean(np.array(drawn) < 1e-3) < 0.65


def test_a_whole_range_takes_the_type_of_its_key() -> None:
    one = space(batch_size={"low": 16, "high": 128})
    assert isinstance(one.dimensions["batch_size"], Range) and one.dimensions["batch_size"].whole
    assert one.decode({"batch_size": 17.6}) == {"batch_size": 18}


@pytest.mark.parametrize("model, name", [("classifier", "search.yaml"), ("gan", "search-gan.yaml")])
def test_the_presets_are_the_default_spaces(model: str, name: str) -> None:
    assert yaml.safe_load((CONF / name).read_text()) == SPACES[model]
    config = SearchConfig(shards=Path("s"), run=Path("r"), model=model)
    base = base_settings(config, {})
    made = load_search_space(config, None, base)
    assert list(made.dimensions) == list(SPACES[model])
    assert made.contains(made.read(base)), "the first trial has the defaults: they must lie inside"


def test_a_population_is_not_searched_for_what_changes_the_network() -> None:
    config = SearchConfig(shards=Path("s"), run=Path("r"), scheduler="pbt")
    base = base_settings(config, {})
    assert "model.channels" not in load_search_space(config, None, base).dimensions
    with pytest.raises(
        ConfigError, match=r"'model.channels' can't be searched with --scheduler pbt.*it changes the network"
    ):
        load_search_space(config, {"model.channels": [[8], [16]]}, base)
    pb2 = SearchConfig(shards=Path("s"), run=Path("r"), scheduler="pb2")
    with pytest.raises(
        ConfigError, match=r"'sampling' can't be searched with --scheduler pb2, which models numbers"
    ):
        load_search_space(pb2, {"sampling": ["uniform", "balanced"]}, base)
    assert load_search_space(pb2, None, base).unit


@pytest.mark.parametrize(
    "changes, fault",
    [
        ({"metric": "frechet"}, "--metric frechet is none of a classifier: choose one of val_macro_f1"),
        ({"metric": "val_loss", "model": "gan"}, "--metric val_loss is none of a gan: choose one of frechet"),
        ({"model": "gan", "inner_folds": 3}, "--inner-folds 3: a GAN is judged on one part"),
        ({"scheduler": "pbt", "searcher": "random"}, "suggests the values itself"),
        ({"scheduler": "pb2", "trials": 1}, "needs a population of 2 or more --trials, not 1"),
    ],
)
def test_settings_of_a_search_that_do_not_go_together(changes: dict, fault: str) -> None:
    with pytest.raises(ConfigError, match=fault):
        SearchConfig(shards=Path("s"), run=Path("r"), **changes)


def test_a_trial_keeps_the_epoch_that_is_best_by_the_metric_and_the_base_its_other_settings() -> None:
    config = SearchConfig(
        shards=Path("s"), run=Path("r"), metric="val_loss", max_epochs=7, fold=3, seed=9, workers_per_trial=2
    )
    base = base_settings(config, {"label_smoothing": 0.05, "keep": "last", "epochs": 99})
    assert isinstance(base, TrainClassifierConfig)
    assert (base.monitor, base.keep, base.epochs, base.fold, base.seed, base.workers) == (
        "val_loss",
        "best",
        7,
        3,
        9,
        2,
    )
    assert base.label_smoothing == 0.05
    gan = base_settings(
        SearchConfig(shards=Path("s"), run=Path("r"), model="gan", max_epochs=18), {"select_best": False}
    )
    assert isinstance(gan, TrainGanConfig) and gan.select_best and gan.sample_every == 2
    with pytest.raises(ConfigError, match=r"--base .*unknown key 'learning_rte'"):
        base_settings(config, {"learning_rte": 1})
