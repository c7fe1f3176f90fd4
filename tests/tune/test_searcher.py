"""Who suggests values and who stops trials, without a cluster: the same seed does the same, also after a break."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest
from optuna.trial import TrialState
from ray.tune.schedulers import TrialScheduler

from tune.config import SearchConfig
from tune.schedulers import clip_to_space, make_scheduler, population_param_space
from tune.searcher import OptunaSearcher
from tune.space import SearchSpace
from tune.study import importances, to_frozen_trial
from tune.trial.spec import base_settings, load_search_space
from tune.trial.trainable import DONE_KEY, ERROR_KEY, TRIAL_NUMBER_KEY
from tune.trials import Point, Trial, best_trial

VALUES = {
    "learning_rate": {"low": 1e-4, "high": 1e-2, "log": True},
    "mixup.rate": {"low": 0.0, "high": 1.0},
    "model.norm": ["batch", "group"],
}


def search_config(**changes: object) -> SearchConfig:
    return SearchConfig(**{"shards": Path("s"), "run": Path("r"), "trials": 12, "max_epochs": 9} | changes)


def space_and_base(config: SearchConfig, values: dict | None = None) -> tuple[SearchSpace, dict]:
    base = base_settings(config, {})
    space = load_search_space(config, values or VALUES, base)
    return space, space.read(base)


def score(raw: dict) -> float:
    """Best at a learning rate of 1e-3 with much MixUp."""
    return 1.0 - abs(raw["learning_rate"] - 1e-3) * 50 - (1 - raw.get("mixup.rate", 1.0)) * 0.3


def ask(suggester: OptunaSearcher, count: int) -> list[dict]:
    """So many suggestions, each told its score before the next is asked for."""
    made = []
    for i in range(count):
        raw = suggester.suggest(f"id{i}")
        made.append(raw)
        result = {"epoch": 9, "score": score(raw), DONE_KEY: True}
        suggester.on_trial_result(f"id{i}", result)
        suggester.on_trial_complete(f"id{i}", result)
    return made


@pytest.mark.parametrize("searcher", ["tpe", "random"])
def test_the_same_seed_suggests_the_same_and_another_others(searcher: str) -> None:
    config = search_config(searcher=searcher)
    first, again = (ask(OptunaSearcher(config, *space_and_base(config), []), 12) for _ in range(2))
    assert first == again
    other = ask(OptunaSearcher(search_config(searcher=searcher, seed=7), *space_and_base(config), []), 12)
    assert first[1:] != other[1:]
    assert [raw[TRIAL_NUMBER_KEY] for raw in first] == list(range(12))


def test_the_first_trial_has_the_base_values_and_the_last_is_followed_by_none() -> None:
    config = search_config(trials=2)
    space, base = space_and_base(config)
    suggester = OptunaSearcher(config, space, base, [])
    made = ask(suggester, 2)
    assert space.decode(made[0]) == base
    assert suggester.suggest("more") == OptunaSearcher.FINISHED
    outside = space_and_base(config, {"learning_rate": {"low": 0.005, "high": 0.01}})
    assert ask(OptunaSearcher(config, *outside, []), 1)[0]["learning_rate"] >= 0.005


def test_a_search_that_was_broken_off_suggests_what_it_would_have() -> None:
    config = search_config()
    space, base = space_and_base(config)
    whole = ask(OptunaSearcher(config, space, base, []), 12)
    known = [
        Trial(raw[TRIAL_NUMBER_KEY], space.decode(raw), "finished", points=[Point(9, score(raw), 1.0)])
        for raw in whole[:8]
    ]
    running = Trial(8, space.decode(whole[8]), "running")
    rest = ask(OptunaSearcher(config, space, base, [*known, running]), 4)
    assert [raw[TRIAL_NUMBER_KEY] for raw in rest] == [8, 9, 10, 11]
    assert rest == whole[8:]


def test_the_estimator_finds_better_values_than_chance() -> None:
    means = {}
    for searcher in ("tpe", "random"):
        bests = []
        for seed in range(4):
            config = search_config(searcher=searcher, seed=seed, trials=40, include_base=False)
            bests.append(
                sum(
                    sorted(
                        score(raw) for raw in ask(OptunaSearcher(config, *space_and_base(config), []), 40)
                    )[-10:]
                )
                / 10
            )
        means[searcher] = sum(bests) / len(bests)
    assert means["tpe"] > means["random"] + 0.02


@pytest.mark.parametrize(
    "result, error, state",
    [
        ({"epoch": 3, "score": 0.5}, False, TrialState.PRUNED),
        ({"epoch": 3, "score": 0.5, DONE_KEY: True}, False, TrialState.COMPLETE),
        ({"epoch": 9, "score": 0.5}, False, TrialState.COMPLETE),
        ({"epoch": 3, "score": 0.5, ERROR_KEY: "the loss is nan"}, False, TrialState.FAIL),
        ({"epoch": 3, "score": 0.5}, True, TrialState.FAIL),
    ],
)
def test_what_became_of_a_suggestion_reaches_the_estimator(
    result: dict, error: bool, state: TrialState
) -> None:
    config = search_config()
    space, base = space_and_base(config)
    suggester = OptunaSearcher(config, space, base, [])
    suggester.suggest("id")
    suggester.on_trial_result("id", {"epoch": 2, "score": 0.7})
    suggester.on_trial_result("id", result)
    suggester.on_trial_complete("id", result, error)
    told = suggester._study.trials[0]
    assert told.state == state
    if state != TrialState.FAIL:
        assert told.value == 0.7  # the best epoch counts, not the last
    names = {TrialState.PRUNED: "stopped", TrialState.COMPLETE: "finished", TrialState.FAIL: "failed"}
    points = [Point(2, 0.7, 0.0), Point(3, 0.5, 0.0)]
    kept = to_frozen_trial(Trial(0, base, names[state], points=points), space, "max")  # type: ignore[arg-type]
    assert (kept.state, kept.value) == (told.state, told.value)


def verdicts(scheduler: TrialScheduler, trials: list[Trial]) -> list[int | None]:
    """The epoch after which each trial is stopped; none where it goes to its end."""
    ends: list[int | None] = []
    for trial in trials:
        ghost = SimpleNamespace(trial_id=str(trial.number))
        scheduler.on_trial_add(None, ghost)  # type: ignore[arg-type]
        best = -1.0
        ends.append(None)
        for point in trial.points:
            best = max(best, point.score)
            if (
                scheduler.on_trial_result(None, ghost, {"epoch": point.epoch, "best": best})
                == TrialScheduler.STOP
            ):  # type: ignore[arg-type]
                ends[-1] = point.epoch
                break
    return ends


def test_asha_stops_as_by_hand_and_remembers_the_trials_of_an_earlier_session() -> None:
    config = search_config(grace_epochs=1, reduction_factor=3.0)
    space, base = space_and_base(config)
    levels = [0.6, 0.3, 0.9, 0.5, 0.7, 0.2, 0.95, 0.4]
    trials = [
        Trial(i, base, "finished", points=[Point(e, level, 0.0) for e in range(1, 10)])
        for i, level in enumerate(levels)
    ]
    ends = verdicts(make_scheduler(config, space, []), trials)
    # Rungs at epochs 1, 3 and 9; to pass one, a score must reach the upper third of those before it.
    assert ends == [None, 1, None, 1, 3, 1, None, 1]
    earlier = [
        Trial(t.number, t.values, "stopped" if end else "finished", points=t.points[:end])
        for t, end in zip(trials, ends, strict=True)
    ]
    assert verdicts(make_scheduler(config, space, earlier[:4]), trials[4:]) == ends[4:]
    assert verdicts(make_scheduler(config, space, []), trials[4:]) != ends[4:], (
        "a scheduler that forgot would be kinder"
    )


def test_a_population_is_drawn_by_seed_and_goes_on_with_the_values_it_had() -> None:
    config = search_config(scheduler="pbt", trials=4)
    space, base = space_and_base(config, {key: VALUES[key] for key in ("learning_rate", "mixup.rate")})

    def values(known: list[Trial]) -> dict[int, dict]:
        param = population_param_space(config, space, base, known)
        return {
            n: {key: param[key].func({"config": {TRIAL_NUMBER_KEY: n}}) for key in base}
            for n in param[TRIAL_NUMBER_KEY]["grid_search"]
        }

    fresh = values([])
    assert fresh == values([]) and fresh[0] == base and sorted(fresh) == [0, 1, 2, 3]
    assert len({raw["learning_rate"] for raw in fresh.values()}) == 4
    moved = {"learning_rate": 2e-3, "mixup.rate": 0.125}
    again = values([Trial(1, moved, "running"), Trial(2, fresh[2], "finished")])
    assert again == {0: fresh[0], 1: moved, 3: fresh[3]}
    kept = clip_to_space(space)({TRIAL_NUMBER_KEY: 3, "learning_rate": 1.0, "mixup.rate": -0.1})
    assert kept == {TRIAL_NUMBER_KEY: 3, "learning_rate": 1e-2, "mixup.rate": 0.0}


def test_the_parameter_that_counts_is_the_most_important() -> None:
    config = search_config(trials=24)
    space, base = space_and_base(config)
    trials = []
    for raw in ask(OptunaSearcher(search_config(trials=24, searcher="random"), space, base, []), 24):
        trials.append(
            Trial(
                raw[TRIAL_NUMBER_KEY],
                space.decode(raw),
                "finished",
                points=[Point(1, 1 - (1 - raw["mixup.rate"]) ** 2, 0.0)],
            )
        )
    found = importances(trials, space, "max")
    assert (
        found is not None
        and max(found, key=found.__getitem__) == "mixup.rate"
        and sum(found.values()) == pytest.approx(1)
    )
    assert importances(trials[:5], space, "max") is None  # too few to say
    assert importances([Trial(t.number, t.values, "failed") for t in trials], space, "max") is None


def test_the_best_trial_is_the_best_epoch_of_one_that_did_not_fail() -> None:
    points = {0: [0.5, 0.8, 0.6], 1: [0.8, 0.7, 0.8], 2: [0.9, 0.9, 0.9]}
    trials = [
        Trial(
            n, {}, "failed" if n == 2 else "finished", points=[Point(e, s, 0.0) for e, s in enumerate(p, 1)]
        )
        for n, p in points.items()
    ]
    best = best_trial(trials, "max")
    assert best is trials[0] and best.best("max") == Point(2, 0.8, 0.0)
    worst = best_trial(trials, "min")
    assert worst is trials[0] and worst.best("min") == Point(1, 0.5, 0.0)
    assert best_trial([], "max") is None and best_trial([Trial(0, {})], "max") is None
