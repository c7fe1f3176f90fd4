"""Who suggests the values of a trial: Optuna, told by Ray Tune what became of them.

Every suggestion is seeded by the search's seed and the trial's number, so it depends on the results known at the time only, not
on whether the search was broken off in between.
"""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import optuna
from optuna.trial import TrialState
from ray.tune.search import Searcher

from tune.config import SearchConfig
from tune.space import SearchSpace
from tune.study import new_study, to_frozen_trial
from tune.trial.trainable import TRIAL_NUMBER_KEY, outcome
from tune.trials import Point, Trial, best_point

# Suggestions by chance before the estimator has seen enough.
STARTUP_TRIALS = 8


class OptunaSearcher(Searcher):
    """Hands out the trials of a search: first those that were broken off, then new ones, up to the number asked for."""

    def __init__(self, config: SearchConfig, space: SearchSpace, base: dict[str, Any], known: list[Trial]):
        """`base` has the base settings' values at the space's keys; `known` are the trials of an earlier session."""
        super().__init__(metric="score", mode=config.mode)
        self._config, self._space, self._base = config, space, base
        self._waiting = [trial for trial in known if trial.state == "running"]
        self._next = max((trial.number for trial in known), default=-1) + 1
        self._study = new_study(config.mode)
        for trial in known:
            if trial.state != "running":
                self._study.add_trial(to_frozen_trial(trial, space, config.mode))
        self._asked: dict[str, optuna.Trial] = {}
        self._points: dict[str, list[Point]] = {}

    def suggest(self, trial_id: str) -> Any:
        """The configuration of the next trial, or that there is none left."""
        if self._waiting:
            trial = self._waiting.pop(0)
            number, values = trial.number, trial.values
            self._study.enqueue_trial(self._space.to_raw(values))
        elif self._next >= self._config.trials:
            return Searcher.FINISHED
        else:
            number, self._next = self._next, self._next + 1
            if number == 0 and self._config.include_base and self._space.contains(self._base):
                self._study.enqueue_trial(self._space.to_raw(self._base))
        self._study.sampler = make_sampler(self._config, number)
        asked = self._study.ask(self._space.distributions())
        self._asked[trial_id] = asked
        self._points[trial_id] = []
        return {TRIAL_NUMBER_KEY: number, **asked.params}

    def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
        """Notes a score."""
        if "score" in result:
            self._points[trial_id].append(Point(result["epoch"], result["score"], 0.0))

    def on_trial_complete(
        self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False
    ) -> None:
        """Tells the study what became of a suggestion: its best score; a stopped one's as that of a stopped one."""
        asked = self._asked.pop(trial_id, None)
        if asked is None:
            return
        points = sorted(self._points.pop(trial_id), key=lambda point: point.epoch)
        best = best_point(points, self._config.mode)
        state = "failed" if error or best is None else outcome(result or {}, self._config.max_epochs)
        if best is None or state == "failed":
            self._study.tell(asked, state=TrialState.FAIL)
        elif state == "finished":
            self._study.tell(asked, best.score)
        else:
            asked.report(best.score, points[-1].epoch)
            self._study.tell(asked, state=TrialState.PRUNED)

    def save(self, checkpoint_path: str) -> None:
        """Nothing: what is known lies in the trials' folders."""

    def restore(self, checkpoint_path: str) -> None:
        """Nothing, as `save`."""


def make_sampler(config: SearchConfig, number: int) -> optuna.samplers.BaseSampler:
    """The sampler of one suggestion."""
    seed = int(np.random.SeedSequence([config.seed, number]).generate_state(1)[0])
    if config.searcher == "random":
        return optuna.samplers.RandomSampler(seed=seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        # Parameters are drawn together, as they depend on each other; and not where another trial is at work already.
        return optuna.samplers.TPESampler(
            seed=seed,
            n_startup_trials=min(STARTUP_TRIALS, max(1, config.trials // 3)),
            multivariate=True,
            constant_liar=True,
        )
