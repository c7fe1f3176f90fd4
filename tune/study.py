"""Trials as an Optuna study, and the importance of hyperparameters."""

from __future__ import annotations

from typing import Literal

import optuna
from optuna.trial import TrialState

from tune.space import SearchSpace
from tune.trials import Mode, Trial

DIRECTIONS: dict[Mode, Literal["maximize", "minimize"]] = {"max": "maximize", "min": "minimize"}


def new_study(mode: Mode) -> optuna.Study:
    """Create an empty in-memory study."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    return optuna.create_study(direction=DIRECTIONS[mode])


def to_frozen_trial(trial: Trial, space: SearchSpace, mode: Mode) -> optuna.trial.FrozenTrial:
    """Convert an ended trial to Optuna's form: failed, pruned or complete, with its best score as value."""
    best = trial.best(mode)
    params = space.to_raw(trial.params)
    if trial.state == "failed" or best is None:
        return optuna.trial.create_trial(
            state=TrialState.FAIL, params=params, distributions=space.distributions()
        )
    stopped = trial.state == "stopped"
    return optuna.trial.create_trial(
        state=TrialState.PRUNED if stopped else TrialState.COMPLETE,
        value=best.score,
        params=params,
        distributions=space.distributions(),
        intermediate_values={trial.points[-1].epoch: best.score} if stopped else {},
    )


def importances(trials: list[Trial], space: SearchSpace, mode: Mode) -> dict[str, float] | None:
    """Return the fraction of the variance of scores that each key explains (fANOVA, Hutter et al. 2014).

    The fractions add up to 1. Each trial is represented by its best score, also if it was stopped early.
    Return None if there are fewer than two scored trials per key, or if nothing can be learned from them:
    all scores are nearly equal, or all values.
    """
    scored = [trial for trial in trials if trial.state != "failed" and trial.best(mode)]
    scores = {trial.best(mode).score for trial in scored}  # type: ignore[union-attr]
    values = {tuple(space.to_raw(trial.params).items()) for trial in scored}
    if len(scored) < 2 * len(space.dimensions) or len(scores) < 2 or len(values) < 2:
        return None
    study = new_study(mode)
    for trial in scored:
        point = trial.best(mode)
        assert point is not None
        study.add_trial(
            optuna.trial.create_trial(
                value=point.score, params=space.to_raw(trial.params), distributions=space.distributions()
            )
        )
    evaluator = optuna.importance.FanovaImportanceEvaluator(seed=0)
    try:
        fractions = optuna.importance.get_param_importances(study, evaluator=evaluator)
    except RuntimeError:  # no tree of the forest found a difference
        return None
    return {key: float(value) for key, value in fractions.items()}
