"""Decisions of the schedulers and values of a population, without a cluster."""

from __future__ import annotations

from types import SimpleNamespace

from ray.tune.schedulers import TrialScheduler

from tests.tune.searches import SPACE, search_config, space_and_base
from tune.schedulers import clip_to_space, make_scheduler, population_param_space
from tune.trial.trainable import TRIAL_NUMBER_KEY
from tune.trials import Point, Trial


def stop_epochs(scheduler: TrialScheduler, trials: list[Trial]) -> list[int | None]:
    """Return the epoch after which the scheduler stops each trial; None if it does not."""
    epochs: list[int | None] = []
    for trial in trials:
        fake_trial = SimpleNamespace(trial_id=str(trial.number))
        scheduler.on_trial_add(None, fake_trial)  # type: ignore[arg-type]
        best = -1.0
        epochs.append(None)
        for point in trial.points:
            best = max(best, point.score)
            result = {"epoch": point.epoch, "best": best}
            decision = scheduler.on_trial_result(None, fake_trial, result)  # type: ignore[arg-type]
            if decision == TrialScheduler.STOP:
                epochs[-1] = point.epoch
                break
    return epochs


def test_asha_stops_trials_below_top_third() -> None:
    config = search_config(grace_epochs=1, reduction_factor=3.0)
    trials = constant_trials([0.6, 0.3, 0.9, 0.5, 0.7, 0.2, 0.95, 0.4])
    # Rungs at epochs 1, 3 and 9; to pass one, a score must be in the top third of those recorded there.
    expected = [None, 1, None, 1, 3, 1, None, 1]
    assert stop_epochs(make_scheduler(config, space_and_base(config)[0], []), trials) == expected


def test_asha_of_resumed_search_keeps_its_rungs() -> None:
    config = search_config(grace_epochs=1, reduction_factor=3.0)
    space, _ = space_and_base(config)
    trials = constant_trials([0.6, 0.3, 0.9, 0.5, 0.7, 0.2, 0.95, 0.4])
    expected = stop_epochs(make_scheduler(config, space, []), trials)
    known = [
        Trial(trial.number, trial.params, "stopped" if epoch else "finished", points=trial.points[:epoch])
        for trial, epoch in zip(trials[:4], expected[:4], strict=True)
    ]
    assert stop_epochs(make_scheduler(config, space, known), trials[4:]) == expected[4:]
    assert stop_epochs(make_scheduler(config, space, []), trials[4:]) != expected[4:]


def constant_trials(scores: list[float]) -> list[Trial]:
    """Return finished trials that have the same score in all of their nine epochs."""
    return [
        Trial(number, {}, "finished", points=[Point(epoch, score, 0.0) for epoch in range(1, 10)])
        for number, score in enumerate(scores)
    ]


def population(known: list[Trial]) -> dict[int, dict]:
    """Return the initial values of a PBT population of four, by trial number."""
    config = search_config(scheduler="pbt", trials=4)
    space, base = space_and_base(config, {key: SPACE[key] for key in ("learning_rate", "mixup.rate")})
    param_space = population_param_space(config, space, base, known)
    return {
        number: {key: param_space[key].func({"config": {TRIAL_NUMBER_KEY: number}}) for key in base}
        for number in param_space[TRIAL_NUMBER_KEY]["grid_search"]
    }


def test_population_is_sampled_by_seed_after_base() -> None:
    initial = population([])
    assert initial == population([])
    assert sorted(initial) == [0, 1, 2, 3]
    assert initial[0]["learning_rate"] == 2e-3  # the base settings
    assert len({raw["learning_rate"] for raw in initial.values()}) == 4


def test_resumed_population_keeps_mutated_values() -> None:
    initial = population([])
    mutated = {"learning_rate": 2e-3, "mixup.rate": 0.125}
    resumed = population([Trial(1, mutated, "running"), Trial(2, initial[2], "finished")])
    assert resumed == {0: initial[0], 1: mutated, 3: initial[3]}


def test_mutated_values_are_clipped_to_their_ranges() -> None:
    config = search_config(scheduler="pbt", trials=4)
    space, _ = space_and_base(config, {key: SPACE[key] for key in ("learning_rate", "mixup.rate")})
    clipped = clip_to_space(space)({TRIAL_NUMBER_KEY: 3, "learning_rate": 1.0, "mixup.rate": -0.1})
    assert clipped == {TRIAL_NUMBER_KEY: 3, "learning_rate": 1e-2, "mixup.rate": 0.0}
