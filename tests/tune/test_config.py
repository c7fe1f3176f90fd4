"""Validation of a search's settings."""

from __future__ import annotations

import pytest

from models.config import ConfigError
from tests.tune.searches import search_config
from tune.config import NestedCrossvalConfig


@pytest.mark.parametrize(
    "overrides, message",
    [
        (
            {"metric": "frechet"},
            "--metric frechet is not available for a classifier: choose one of val_macro_f1",
        ),
        (
            {"metric": "val_loss", "model": "gan"},
            "--metric val_loss is not available for a gan: choose one of frechet",
        ),
        ({"model": "gan", "inner_folds": 3}, "--inner-folds 3: not supported for GANs"),
        (
            {"scheduler": "pbt", "searcher": "random"},
            "--scheduler pbt chooses values itself: drop --searcher",
        ),
        ({"scheduler": "pb2", "trials": 1}, "needs a population of 2 or more --trials, not 1"),
    ],
)
def test_incompatible_settings_are_rejected(overrides: dict, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        search_config(**overrides)


@pytest.mark.parametrize(
    "overrides, message",
    [
        ({"model": "gan"}, "supports classifiers only: drop --model"),
        ({"fold": 2}, "--fold 2: crossval --tuned holds out every fold; drop --fold"),
        ({"scheduler": "pbt"}, "--scheduler pbt produces a schedule that cannot be retrained"),
    ],
)
def test_nested_crossval_rejects_incompatible_settings(overrides: dict, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        NestedCrossvalConfig(shards="s", run="r", **overrides)


def test_metric_defaults_to_that_of_model_family() -> None:
    classifier, gan = search_config(), search_config(model="gan")
    assert (classifier.metric_name, classifier.mode) == ("val_macro_f1", "max")
    assert (gan.metric_name, gan.mode) == ("frechet", "min")
