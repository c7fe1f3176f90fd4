"""Ray Tune's trial schedulers, restored from the trials of earlier sessions.

ASHA  asynchronous successive halving (Li et al. 2020): stops weak trials at rungs
PBT   population based training (Jaderberg et al. 2017): weak trials copy the weights of strong ones and
      perturb their hyperparameters
PB2   population based bandits (Parker-Holder et al. 2020): PBT with values chosen by a Gaussian process
"""

from __future__ import annotations

import random
from itertools import accumulate
from types import SimpleNamespace
from typing import Any

import numpy as np
import ray.tune
from ray.tune.experiment import Trial as TuneTrial
from ray.tune.schedulers import ASHAScheduler, FIFOScheduler, PopulationBasedTraining, TrialScheduler
from ray.tune.schedulers.pb2 import PB2

from tune.config import SearchConfig
from tune.dimensions import Range
from tune.space import SearchSpace
from tune.trial.scores import REPEATED_KEY
from tune.trial.trainable import TRIAL_NUMBER_KEY
from tune.trials import Trial, better

WAITING = (TuneTrial.PENDING, TuneTrial.PAUSED)


class _Population:
    """Mixin of PBT and PB2 by which trials keep their numbers and all of them reach their last epoch."""

    def __init__(self, max_epochs: int, **arguments: Any):
        super().__init__(**arguments)
        self._max_epochs = max_epochs
        self._num_results = 0
        self._last_turns: dict[str, int] = {}

    def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:
        """Decide after a new epoch, but the last: a trial that copied another one would train it again."""
        self._num_results += 1
        self._last_turns[trial.trial_id] = self._num_results
        if result.get(REPEATED_KEY) or result.get("epoch", 0) >= self._max_epochs:
            return TrialScheduler.CONTINUE
        decision: str = super().on_trial_result(tune_controller, trial, result)  # type: ignore[misc]
        return decision

    def choose_trial_to_run(self, tune_controller: Any) -> Any:
        """Return the waiting trial with the fewest epochs; of several the one that has waited longest.

        Ray Tune takes the first of several. A trial that copied another one is at the epoch of the other one,
        so it could train the next epoch, fall behind and copy again, forever, while the others wait.
        """
        waiting = [trial for trial in tune_controller.get_trials() if trial.status in WAITING]

        def turn(trial: Any) -> tuple[int, int]:
            epoch = self._trial_state[trial].last_train_time  # type: ignore[attr-defined]
            return epoch, self._last_turns.get(trial.trial_id, 0)

        return min(waiting, key=turn, default=None)

    def _get_new_config(self, trial: Any, trial_to_clone: Any) -> tuple[dict[str, Any], dict[str, Any]]:
        new, operations = super()._get_new_config(trial, trial_to_clone)  # type: ignore[misc]
        return new | {TRIAL_NUMBER_KEY: trial.config[TRIAL_NUMBER_KEY]}, operations


class Asha(ASHAScheduler):
    """Asynchronous successive halving (Li et al. 2020) that lets trials complete their runs."""

    def __init__(self, max_epochs: int, **arguments: Any):
        # Ray Tune itself would stop trials in the epoch `max_t`.
        super().__init__(max_t=max_epochs + 1, **arguments)
        self._max_epochs = max_epochs

    def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:
        """Stop a trial that is weak at a rung, but not after its last epoch: it ends by itself."""
        if result["epoch"] >= self._max_epochs:
            return TrialScheduler.CONTINUE
        return super().on_trial_result(tune_controller, trial, result)


class Pbt(_Population, PopulationBasedTraining):
    """Population based training (Jaderberg et al. 2017)."""


class Pb2(_Population, PB2):
    """Population based bandits (Parker-Holder et al. 2020)."""


def make_scheduler(config: SearchConfig, space: SearchSpace, known: list[Trial]) -> TrialScheduler:
    """Create the scheduler of a search; ASHA compares best scores so far, PBT and PB2 current scores.

    Seeds the global generators of `random` and NumPy, which PBT and PB2 use.
    """
    random.seed(config.seed)
    np.random.seed(config.seed % 2**32)
    if config.scheduler == "none":
        return FIFOScheduler()
    if config.scheduler == "asha":
        return _asha(config, known)
    common: dict[str, Any] = {
        "max_epochs": config.max_epochs,
        "time_attr": "epoch",
        "metric": "score",
        "mode": config.mode,
        "perturbation_interval": config.grace_period,
        "log_config": False,
    }
    if config.scheduler == "pbt":
        return Pbt(hyperparam_mutations=_mutations(space), custom_explore_fn=clip_to_space(space), **common)
    return Pb2(hyperparam_bounds={key: [0.0, 1.0] for key in space.dimensions}, **common)


def _asha(config: SearchConfig, known: list[Trial]) -> ASHAScheduler:
    """Create an ASHA scheduler with the rungs of earlier sessions.

    It compares the best scores so far, not the current ones: trials are ranked by their best score, which is
    also less noisy.
    """
    grace_period = min(config.grace_period, config.max_epochs)
    scheduler = Asha(
        max_epochs=config.max_epochs,
        time_attr="epoch",
        metric="best",
        mode=config.mode,
        grace_period=grace_period,
        reduction_factor=config.reduction_factor,
    )
    for trial in known:
        if trial.state in ("stopped", "finished"):
            replayed = SimpleNamespace(trial_id=f"earlier_{trial.number}")
            scheduler.on_trial_add(None, replayed)  # type: ignore[arg-type]
            bests = accumulate((point.score for point in trial.points), better(config.mode))
            for point, best in zip(trial.points, bests, strict=True):
                scheduler.on_trial_result(None, replayed, {"epoch": point.epoch, "best": best})
    return scheduler


def _mutations(space: SearchSpace) -> dict[str, Any]:
    """Return the distributions from which PBT resamples values, in the searcher's representation."""
    mutations: dict[str, Any] = {}
    for key, dimension in space.dimensions.items():
        if not isinstance(dimension, Range):
            mutations[key] = [dimension.to_raw(choice) for choice in dimension.choices]
        elif dimension.log:
            mutations[key] = ray.tune.loguniform(dimension.low, dimension.high)
        else:
            mutations[key] = ray.tune.uniform(dimension.low, dimension.high)
    return mutations


def clip_to_space(space: SearchSpace) -> Any:
    """Return a function that clips mutated values to their ranges: PBT multiplies them without bounds."""

    def clip(config: dict[str, Any]) -> dict[str, Any]:
        return config | {
            key: dimension.to_value(config[key])
            for key, dimension in space.dimensions.items()
            if isinstance(dimension, Range)
        }

    return clip


def population_param_space(
    config: SearchConfig, space: SearchSpace, base: dict[str, Any], known: list[Trial]
) -> dict[str, Any]:
    """Return Ray Tune's search space of a population: a grid over trial numbers, which determine all values.

    PBT and PB2 do not work with a searcher. Interrupted trials keep their current values; those of new trials
    are sampled, seeded by the search's seed and the trial's number.
    """
    known_by_number = {trial.number: trial for trial in known}
    raw_params: dict[int, dict[str, Any]] = {}
    for number in range(config.trials):
        if number in known_by_number:
            if known_by_number[number].state == "running":
                raw_params[number] = space.encode(known_by_number[number].params)
        elif number == 0 and config.include_base and space.contains(base):
            raw_params[number] = space.encode(base)
        else:
            rng = np.random.default_rng([config.seed, number])
            raw_params[number] = space.encode(space.sample(rng))
    lookups = {key: ray.tune.sample_from(_Lookup(key, raw_params)) for key in space.dimensions}
    return {TRIAL_NUMBER_KEY: ray.tune.grid_search(sorted(raw_params)), **lookups}


class _Lookup:
    """Looks up a value of a trial by the trial's number."""

    def __init__(self, key: str, raw_params: dict[int, dict[str, Any]]):
        self.key, self.raw_params = key, raw_params

    def __call__(self, spec: Any) -> Any:
        return self.raw_params[spec["config"][TRIAL_NUMBER_KEY]][self.key]
