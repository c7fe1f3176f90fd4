"""Trials as Optuna sees them, and how much each parameter counts."""

from __future__ import annotations

from typing import Literal

import optuna
from optuna.trial import TrialState

from tune.space import SearchSpace
from tune.trials import Mode, Trial

DIRECTION: dict[Mode, Literal["maximize", "minimize"]] = {"max": "maximize", "min": "minimize"}


def new_study(mode: Mode) -> optuna.Study:
    """An empty study in memory."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    return optuna.create_study(direction=DIRECTION[mode])


def to_frozen_trial(trial: Trial, space: SearchSpace, mode: Mode) -> optuna.trial.FrozenTrial:
    """An ended trial as Optuna keeps it: failed, stopped at an epoch, or complete, with its best score."""
    best = trial.best(mode)
    params = space.to_raw(trial.values)
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
    """How much of the scores' spread each key explains, in all 1 (fANOVA, Hutter et al. 2014); none from too few trials.

    Each trial counts with its best score, stopped ones too: that they were stopped is part of what their values did.
    """
    scored = [trial for trial in trials if trial.state != "failed" and trial.best(mode)]
    scores = {trial.best(mode).score for trial in scored}  # type: ignore[union-attr]
    if len(scored) < 2 * len(space.dimensions) or len(scores) < 2:
        return None
    study = new_study(mode)
    for trial in scored:
        point = trial.best(mode)
        assert point is not None
        study.add_trial(
            optuna.trial.create_trial(
                value=point.score, params=space.to_raw(trial.values), distributions=space.distributions()
            )
        )
    evaluator = optuna.importance.FanovaImportanceEvaluator(seed=0)
    return {
        key: float(value)
        for key, value in optuna.importance.get_param_importances(study, evaluator=evaluator).items()
    }
