"""Decisions of the schedulers and values of a population, without a cluster."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from ray.tune.experiment import Trial as TuneTrial
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


def test_asha_stops_no_trial_after_its_last_epoch() -> None:
    """The run of a trial is complete only after it; a rung at it would save nothing."""
    config = search_config(grace_epochs=1, reduction_factor=3.0)
    late, early = constant_trials([0.5, 0.9])
    late.points[-1] = Point(config.max_epochs, 1.0, 0.0)
    assert stop_epochs(make_scheduler(config, space_and_base(config)[0], []), [late, early]) == [None, None]


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


class PopulationTrial:
    """Trial of Ray Tune, as far as PBT and PB2 use it."""

    def __init__(self, number: int, config: dict[str, Any]):
        self.trial_id, self.experiment_tag = str(number), ""
        self.config, self.status = config, TuneTrial.PENDING
        self.evaluated_params: dict[str, Any] = {}
        self.epochs: list[int] = []
        self.run_metadata = SimpleNamespace(
            checkpoint_manager=SimpleNamespace(
                checkpoint_config=SimpleNamespace(num_to_keep=None), _latest_checkpoint_result=saved(0)
            )
        )

    def set_config(self, config: dict[str, Any]) -> None:
        self.config = config

    def set_experiment_tag(self, tag: str) -> None:
        self.experiment_tag = tag

    def is_finished(self) -> bool:
        return self.status == TuneTrial.TERMINATED


class PopulationController:
    """Controller of Ray Tune with room for one trial."""

    search_alg = None

    def __init__(self, trials: list[PopulationTrial]):
        self.trials = trials

    def get_trials(self) -> list[PopulationTrial]:
        return self.trials

    def pause_trial(self, trial: PopulationTrial, should_checkpoint: bool = True) -> None:
        trial.status = TuneTrial.PAUSED
        if should_checkpoint:
            trial.run_metadata.checkpoint_manager._latest_checkpoint_result = saved(trial.epochs[-1])

    def _schedule_trial_save(self, trial: PopulationTrial, result: dict[str, Any]) -> Any:
        return saved(result["epoch"]).checkpoint


def saved(epoch: int) -> Any:
    return SimpleNamespace(checkpoint=SimpleNamespace(epoch=epoch))


@pytest.mark.parametrize("name", ["pbt", "pb2"])
def test_trials_of_population_take_turns_until_all_are_finished(name: str) -> None:
    """Also if the first one falls behind those that wait whenever it is trained, whichever it copies."""
    config = search_config(scheduler=name, trials=4, max_epochs=3, grace_epochs=1)
    values = {"learning_rate": SPACE["learning_rate"]}
    space, base = space_and_base(config, values)
    scheduler = make_scheduler(config, space, [])
    param_space = population_param_space(config, space, base, [])
    trials = [
        PopulationTrial(
            number,
            {
                TRIAL_NUMBER_KEY: number,
                "learning_rate": param_space["learning_rate"].func({"config": {TRIAL_NUMBER_KEY: number}}),
            },
        )
        for number in range(4)
    ]
    controller: Any = PopulationController(trials)
    for trial in trials:
        scheduler.on_trial_add(controller, trial)  # type: ignore[arg-type]
    while (trial := scheduler.choose_trial_to_run(controller)) is not None:  # type: ignore[assignment]
        trial.status = TuneTrial.RUNNING
        epoch = trial.run_metadata.checkpoint_manager._latest_checkpoint_result.checkpoint.epoch
        while trial.status == TuneTrial.RUNNING:
            epoch += 1
            trial.epochs.append(epoch)
            assert len(trial.epochs) < 20, "a trial is trained again and again"
            if epoch > config.max_epochs:
                trial.status = TuneTrial.TERMINATED
                break
            result = {"epoch": epoch, "score": 0.0 if trial is trials[0] else float(epoch)}
            if scheduler.on_trial_result(controller, trial, result) == TrialScheduler.PAUSE:  # type: ignore[arg-type]
                controller.pause_trial(trial)
    assert [trial.epochs.count(config.max_epochs) for trial in trials] == [1] * 4


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
