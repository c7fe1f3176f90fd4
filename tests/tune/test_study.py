"""Importance of hyperparameters."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.tune.searches import search_config, space_and_base, suggest_all
from tune.searcher import OptunaSearcher
from tune.space import SearchSpace
from tune.study import importances
from tune.trial.trainable import TRIAL_NUMBER_KEY
from tune.trials import Point, Trial


@pytest.fixture
def space() -> SearchSpace:
    return space_and_base(search_config())[0]


@pytest.fixture
def trials(space: SearchSpace) -> list[Trial]:
    """24 random trials whose score depends on `mixup.rate` alone."""
    config = search_config(trials=24, searcher="random")
    return [
        Trial(
            raw[TRIAL_NUMBER_KEY],
            space.decode(raw),
            "finished",
            points=[Point(1, 1 - (1 - raw["mixup.rate"]) ** 2, 0.0)],
        )
        for raw in suggest_all(OptunaSearcher(config, *space_and_base(config), []), 24)
    ]


def test_importances_are_highest_for_decisive_key(space: SearchSpace, trials: list[Trial]) -> None:
    fractions = importances(trials, space, "max")
    assert fractions is not None
    assert max(fractions, key=fractions.__getitem__) == "mixup.rate"
    assert sum(fractions.values()) == pytest.approx(1)


@pytest.mark.parametrize("difference", [0.0, 1e-10])
def test_nearly_equal_scores_have_no_importances(
    space: SearchSpace, trials: list[Trial], difference: float
) -> None:
    few = trials[: 2 * len(space.dimensions)]
    equal = [replace(trial, points=[Point(1, 0.5, 0.0)]) for trial in few[:-1]]
    last = replace(few[-1], points=[Point(1, 0.5 + difference, 0.0)])
    assert importances([*equal, last], space, "max") is None


def test_equal_values_have_no_importances(space: SearchSpace, trials: list[Trial]) -> None:
    assert importances([replace(trial, params=trials[0].params) for trial in trials], space, "max") is None


def test_importances_need_enough_scored_trials(space: SearchSpace, trials: list[Trial]) -> None:
    assert importances(trials[:5], space, "max") is None
    failed = [Trial(trial.number, trial.params, "failed") for trial in trials]
    assert importances(failed, space, "max") is None
