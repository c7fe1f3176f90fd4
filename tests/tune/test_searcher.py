"""Suggestions of the searcher, without a cluster."""

from __future__ import annotations

import pytest
from optuna.trial import TrialState

from tests.tune.searches import objective, search_config, space_and_base, suggest_all
from tune.searcher import OptunaSearcher
from tune.study import to_frozen_trial
from tune.trial.trainable import COMPLETED_KEY, ERROR_KEY, TRIAL_NUMBER_KEY
from tune.trials import Point, Trial


@pytest.mark.parametrize("searcher", ["tpe", "random"])
def test_suggestions_depend_on_seed_only(searcher: str) -> None:
    config = search_config(searcher=searcher)
    first, again = (suggest_all(OptunaSearcher(config, *space_and_base(config), []), 12) for _ in range(2))
    assert first == again
    other_seed = search_config(searcher=searcher, seed=7)
    other = suggest_all(OptunaSearcher(other_seed, *space_and_base(config), []), 12)
    assert first[1:] != other[1:]
    assert [raw[TRIAL_NUMBER_KEY] for raw in first] == list(range(12))


def test_first_suggestion_is_base_if_inside_space() -> None:
    config = search_config(trials=2)
    space, base = space_and_base(config)
    assert space.decode(suggest_all(OptunaSearcher(config, space, base, []), 1)[0]) == base
    outside = space_and_base(config, {"learning_rate": {"low": 0.005, "high": 0.01}})
    assert suggest_all(OptunaSearcher(config, *outside, []), 1)[0]["learning_rate"] >= 0.005


def test_suggestions_end_at_number_of_trials() -> None:
    config = search_config(trials=2)
    searcher = OptunaSearcher(config, *space_and_base(config), [])
    suggest_all(searcher, 2)
    assert searcher.suggest("another") == OptunaSearcher.FINISHED


def test_no_suggestion_above_maximum_of_concurrent_trials() -> None:
    config = search_config()
    limit = [1]
    searcher = OptunaSearcher(config, *space_and_base(config), [], lambda: limit[0])
    assert searcher.suggest("first") is not None and searcher.suggest("second") is None
    limit[0] = 2
    assert searcher.suggest("second") is not None and searcher.suggest("third") is None
    searcher.on_trial_complete("first", error=True)
    assert searcher.suggest("third") is not None


def test_resumed_search_continues_with_same_suggestions() -> None:
    config = search_config()
    space, base = space_and_base(config)
    uninterrupted = suggest_all(OptunaSearcher(config, space, base, []), 12)
    known = [
        Trial(raw[TRIAL_NUMBER_KEY], space.decode(raw), "finished", points=[Point(9, objective(raw), 1.0)])
        for raw in uninterrupted[:8]
    ]
    running = Trial(8, space.decode(uninterrupted[8]), "running")
    resumed = suggest_all(OptunaSearcher(config, space, base, [*known, running]), 4)
    assert [raw[TRIAL_NUMBER_KEY] for raw in resumed] == [8, 9, 10, 11]
    assert resumed == uninterrupted[8:]


def test_tpe_finds_better_values_than_random_search() -> None:
    means = {}
    for searcher in ("tpe", "random"):
        top_means = []
        for seed in range(4):
            config = search_config(searcher=searcher, seed=seed, trials=40, include_base=False)
            suggestions = suggest_all(OptunaSearcher(config, *space_and_base(config), []), 40)
            top_means.append(sum(sorted(map(objective, suggestions))[-10:]) / 10)
        means[searcher] = sum(top_means) / len(top_means)
    assert means["tpe"] > means["random"] + 0.02


@pytest.mark.parametrize(
    "result, error, state",
    [
        ({"epoch": 3, "score": 0.5}, False, TrialState.PRUNED),
        ({"epoch": 3, "score": 0.5, COMPLETED_KEY: True}, False, TrialState.COMPLETE),
        ({"epoch": 9, "score": 0.5}, False, TrialState.COMPLETE),
        ({"epoch": 3, "score": 0.5, ERROR_KEY: "the loss is nan"}, False, TrialState.FAIL),
        ({"epoch": 3, "score": 0.5}, True, TrialState.FAIL),
    ],
)
def test_study_records_state_and_best_score(result: dict, error: bool, state: TrialState) -> None:
    config = search_config()
    space, base = space_and_base(config)
    searcher = OptunaSearcher(config, space, base, [])
    searcher.suggest("id")
    searcher.on_trial_result("id", {"epoch": 2, "score": 0.7})
    searcher.on_trial_result("id", result)
    searcher.on_trial_complete("id", result, error)
    recorded = searcher._study.trials[0]
    assert recorded.state == state
    if state != TrialState.FAIL:
        assert recorded.value == 0.7  # of the best epoch, not the last
    states = {TrialState.PRUNED: "stopped", TrialState.COMPLETE: "finished", TrialState.FAIL: "failed"}
    trial = Trial(0, base, states[state], points=[Point(2, 0.7, 0.0), Point(3, 0.5, 0.0)])  # type: ignore[arg-type]
    restored = to_frozen_trial(trial, space, "max")
    assert (restored.state, restored.value) == (recorded.state, recorded.value)


@pytest.mark.parametrize("searcher", ["tpe", "random"])
@pytest.mark.parametrize("seed", range(5))
def test_finite_space_is_tried_without_repetition(searcher: str, seed: int) -> None:
    config = search_config(searcher=searcher, seed=seed, trials=6)
    values = {"learning_rate": [1e-3, 2e-3, 3e-3], "model.norm": ["batch", "group"]}
    space, base = space_and_base(config, values)
    suggestions = suggest_all(OptunaSearcher(config, space, base, []), 6)
    decoded = [space.decode(raw) for raw in suggestions]
    assert len({tuple(params.values()) for params in decoded}) == 6
    # Resumed after three trials, the search continues with the same suggestions.
    known = [
        Trial(number, params, "finished", points=[Point(9, objective(params), 1.0)])
        for number, params in enumerate(decoded[:3])
    ]
    running = Trial(3, decoded[3], "running")
    resumed = suggest_all(OptunaSearcher(config, space, base, [*known, running]), 3)
    assert [space.decode(raw) for raw in resumed] == decoded[3:]


def test_numbers_that_are_missing_are_suggested_first() -> None:
    """Of trials whose start was interrupted, or whose folders were deleted."""
    config = search_config(trials=5)
    space, base = space_and_base(config)
    known = [Trial(number, base | {"learning_rate": 1e-3 * number}, "failed") for number in (1, 3)]
    searcher = OptunaSearcher(config, space, base, known)
    suggestions = suggest_all(searcher, 3)
    assert [raw[TRIAL_NUMBER_KEY] for raw in suggestions] == [0, 2, 4]
    assert space.decode(suggestions[0]) == base
    assert searcher.suggest("another") == OptunaSearcher.FINISHED
