"""Optuna searcher for Ray Tune: suggests hyperparameters from the scores of earlier trials.

TPE: tree-structured Parzen estimator (Bergstra et al. 2011), multivariate, with a constant liar for running
trials. Every suggestion is seeded by the search's seed and the trial's number, so it depends only on the
scores known at that time, not on whether the search was interrupted and resumed.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
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

# Random suggestions before TPE fits its estimator.
MAX_STARTUP_TRIALS = 8


class OptunaSearcher(Searcher):
    """Suggests interrupted trials first, then new ones, up to the number of trials of the search."""

    def __init__(
        self,
        config: SearchConfig,
        space: SearchSpace,
        base: dict[str, Any],
        known: list[Trial],
        max_concurrent: Callable[[], float] = lambda: math.inf,
    ):
        """Rebuild the study from earlier sessions.

        Args:
            config: settings of the search.
            space: search space.
            base: values of the base settings at the keys of the space.
            known: trials of earlier sessions.
            max_concurrent: returns the maximum number of trials at a time, which may change.
        """
        super().__init__(metric="score", mode=config.mode)
        self._max_concurrent = max_concurrent
        self._config, self._space, self._base = config, space, base
        self._interrupted = [trial for trial in known if trial.state == "running"]
        started = {trial.number for trial in known}
        # Also numbers below others: of trials whose start was interrupted, or whose folder was deleted.
        self._numbers = [number for number in range(config.trials) if number not in started]
        self._study = new_study(config.mode)
        for trial in known:
            if trial.state != "running":
                self._study.add_trial(to_frozen_trial(trial, space, config.mode))
        self._tried = {_identity(space.to_raw(trial.params)) for trial in known}
        self._suggestions: dict[str, optuna.Trial] = {}
        self._points: dict[str, list[Point]] = {}

    def suggest(self, trial_id: str) -> Any:
        """Return the configuration of the next trial, `FINISHED` if there is none, or None for none now."""
        if len(self._suggestions) >= self._max_concurrent():
            return None
        if self._interrupted:
            trial = self._interrupted.pop(0)
            number = trial.number
            self._tried.discard(_identity(self._space.to_raw(trial.params)))
            self._study.enqueue_trial(self._space.to_raw(trial.params))
        elif not self._numbers:
            return Searcher.FINISHED
        else:
            number = self._numbers.pop(0)
            if number == 0 and self._config.include_base and self._space.contains(self._base):
                self._study.enqueue_trial(self._space.to_raw(self._base))
        suggestion = self._ask_for_new(number)
        self._tried.add(_identity(suggestion.params))
        self._suggestions[trial_id] = suggestion
        self._points[trial_id] = []
        return {TRIAL_NUMBER_KEY: number, **suggestion.params}

    def _ask_for_new(self, number: int) -> optuna.Trial:
        """Return the suggestion for a trial; in a finite space, with values that no other trial has."""
        self._study.sampler = make_sampler(self._config, number)
        suggestion = self._study.ask(self._space.distributions())
        if _identity(suggestion.params) not in self._tried or len(self._tried) >= self._space.size():
            return suggestion
        self._study.tell(suggestion, state=TrialState.FAIL)
        rng = np.random.default_rng([self._config.seed, number])
        while _identity(params := self._space.to_raw(self._space.sample(rng))) in self._tried:
            pass
        self._study.enqueue_trial(params)
        return self._study.ask(self._space.distributions())

    def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
        """Record a score."""
        if "score" in result:
            self._points[trial_id].append(Point(result["epoch"], result["score"], 0.0))

    def on_trial_complete(
        self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False
    ) -> None:
        """Report the best score of an ended trial to the study, as complete, pruned or failed."""
        suggestion = self._suggestions.pop(trial_id, None)
        if suggestion is None:
            return
        points = sorted(self._points.pop(trial_id), key=lambda point: point.epoch)
        best = best_point(points, self._config.mode)
        state = "failed" if error or best is None else outcome(result or {}, self._config.max_epochs)
        if best is None or state == "failed":
            self._study.tell(suggestion, state=TrialState.FAIL)
        elif state == "finished":
            self._study.tell(suggestion, best.score)
        else:
            suggestion.report(best.score, points[-1].epoch)
            self._study.tell(suggestion, state=TrialState.PRUNED)

    def save(self, checkpoint_path: str) -> None:
        """No-op: the state is in the trials' folders."""

    def restore(self, checkpoint_path: str) -> None:
        """No-op, as `save`."""


def _identity(raw: dict[str, Any]) -> tuple[Any, ...]:
    """Return the values of a suggestion by the order of their keys, which can be put into a set."""
    return tuple(raw[key] for key in sorted(raw))


def make_sampler(config: SearchConfig, number: int) -> optuna.samplers.BaseSampler:
    """Create the sampler for the suggestion of trial `number`."""
    seed = int(np.random.SeedSequence([config.seed, number]).generate_state(1)[0])
    if config.searcher == "random":
        return optuna.samplers.RandomSampler(seed=seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        # Multivariate, as hyperparameters interact; a constant liar, to keep concurrent trials apart.
        return optuna.samplers.TPESampler(
            seed=seed,
            n_startup_trials=min(MAX_STARTUP_TRIALS, max(1, config.trials // 3)),
            multivariate=True,
            constant_liar=True,
        )
