"""Who stops or changes trials: Ray Tune's schedulers, fit to a search and to what an earlier session of it knows."""

from __future__ import annotations

import random
from itertools import accumulate
from types import SimpleNamespace
from typing import Any

import numpy as np
import ray.tune
from ray.tune.schedulers import ASHAScheduler, FIFOScheduler, PopulationBasedTraining, TrialScheduler
from ray.tune.schedulers.pb2 import PB2

from tune.config import SearchConfig
from tune.space import Range, SearchSpace
from tune.trial.trainable import TRIAL_NUMBER_KEY
from tune.trials import Trial, better


class _PreserveTrialNumber:
    """A trial that takes another's place takes its values, not its number."""

    def _get_new_config(self, trial: Any, trial_to_clone: Any) -> tuple[dict[str, Any], dict[str, Any]]:
        new, operations = super()._get_new_config(trial, trial_to_clone)  # type: ignore[misc]
        return new | {TRIAL_NUMBER_KEY: trial.config[TRIAL_NUMBER_KEY]}, operations


class Pbt(_PreserveTrialNumber, PopulationBasedTraining):
    """Population based training (Jaderberg et al. 2017)."""


class Pb2(_PreserveTrialNumber, PB2):
    """Population based bandits (Parker-Holder et al. 2020)."""


def make_scheduler(config: SearchConfig, space: SearchSpace, known: list[Trial]) -> TrialScheduler:
    """The scheduler of a search; it judges by the best score so far, and a population by the present one."""
    random.seed(config.seed)  # pbt draws from the module itself
    np.random.seed(config.seed % 2**32)  # and pb2 from this one
    if config.scheduler == "none":
        return FIFOScheduler()
    if config.scheduler == "asha":
        return _asha(config, known)
    common: dict[str, Any] = {
        "time_attr": "epoch",
        "metric": "score",
        "mode": config.mode,
        "perturbation_interval": config.grace,
        "log_config": False,
    }
    if config.scheduler == "pbt":
        return Pbt(hyperparam_mutations=_mutations(space), custom_explore_fn=clip_to_space(space), **common)
    return Pb2(hyperparam_bounds={key: [0.0, 1.0] for key in space.dimensions}, **common)


def _asha(config: SearchConfig, known: list[Trial]) -> ASHAScheduler:
    """Asynchronous successive halving that remembers the rungs of an earlier session.

    A trial's best score so far counts, not the present one: it is what the trial would hand over, and less noisy.
    """
    grace = min(config.grace, config.max_epochs)
    scheduler = ASHAScheduler(
        time_attr="epoch",
        metric="best",
        mode=config.mode,
        max_t=config.max_epochs + 1,  # a trial ends by itself
        grace_period=grace,
        reduction_factor=config.reduction_factor,
    )
    for trial in known:
        if trial.state in ("stopped", "finished"):
            ghost = SimpleNamespace(trial_id=f"earlier_{trial.number}")
            scheduler.on_trial_add(None, ghost)  # type: ignore[arg-type]
            bests = accumulate((point.score for point in trial.points), better(config.mode))
            for point, best in zip(trial.points, bests, strict=True):
                scheduler.on_trial_result(None, ghost, {"epoch": point.epoch, "best": best})  # type: ignore[arg-type]
    return scheduler


def _mutations(space: SearchSpace) -> dict[str, Any]:
    """Where pbt draws a value anew, in a searcher's terms."""
    mutations: dict[str, Any] = {}
    for key, one in space.dimensions.items():
        if not isinstance(one, Range):
            mutations[key] = [one.to_raw(choice) for choice in one.choices]
        elif one.log:
            mutations[key] = ray.tune.loguniform(one.low, one.high)
        else:
            mutations[key] = ray.tune.uniform(one.low, one.high)
    return mutations


def clip_to_space(space: SearchSpace) -> Any:
    """A function that brings changed values back into their ranges: pbt multiplies without looking."""

    def keep(config: dict[str, Any]) -> dict[str, Any]:
        return config | {
            key: one.to_value(config[key]) for key, one in space.dimensions.items() if isinstance(one, Range)
        }

    return keep


def population_param_space(
    config: SearchConfig, space: SearchSpace, base: dict[str, Any], known: list[Trial]
) -> dict[str, Any]:
    """Tune's search space for a population, whose scheduler allows no searcher: each trial by its number, drawn evenly or as it stood."""
    there = {trial.number: trial for trial in known}
    raws: dict[int, dict[str, Any]] = {}
    for number in range(config.trials):
        if number in there:
            if there[number].state == "running":
                raws[number] = space.encode(there[number].values)
        elif number == 0 and config.include_base and space.contains(base):
            raws[number] = space.encode(base)
        else:
            rng = np.random.default_rng([config.seed, number])
            raws[number] = space.encode({key: one.draw(rng) for key, one in space.dimensions.items()})
    drawn = {key: ray.tune.sample_from(_Lookup(key, raws)) for key in space.dimensions}
    return {TRIAL_NUMBER_KEY: ray.tune.grid_search(sorted(raws)), **drawn}


class _Lookup:
    """The value of a trial, by its number."""

    def __init__(self, key: str, raws: dict[int, dict[str, Any]]):
        self.key, self.raws = key, raws

    def __call__(self, spec: Any) -> Any:
        return self.raws[spec["config"][TRIAL_NUMBER_KEY]][self.key]
