"""Small searches without a cluster, shared by the tests of tune."""

from __future__ import annotations

from pathlib import Path

from tune.config import SearchConfig
from tune.searcher import OptunaSearcher
from tune.settings import base_settings, load_search_space
from tune.space import SearchSpace
from tune.trial.trainable import COMPLETED_KEY

SPACE = {
    "learning_rate": {"low": 1e-4, "high": 1e-2, "log": True},
    "mixup.rate": {"low": 0.0, "high": 1.0},
    "model.norm": ["batch", "group"],
}


def search_config(**overrides: object) -> SearchConfig:
    """Return the settings of a search of 12 trials of 9 epochs."""
    return SearchConfig(**{"shards": Path("s"), "run": Path("r"), "trials": 12, "max_epochs": 9} | overrides)


def space_and_base(config: SearchConfig, values: dict | None = None) -> tuple[SearchSpace, dict]:
    """Return a search space and the values of the base settings at its keys."""
    base = base_settings(config, {})
    space = load_search_space(config, values or SPACE, base)
    return space, space.read(base)


def objective(raw: dict) -> float:
    """Return a score that is best at a learning rate of 1e-3 with MixUp in every batch."""
    return 1.0 - abs(float(raw["learning_rate"]) - 1e-3) * 50 - (1 - raw.get("mixup.rate", 1.0)) * 0.3


def suggest_all(searcher: OptunaSearcher, count: int) -> list[dict]:
    """Request `count` suggestions; each is scored before the next is requested."""
    suggestions = []
    for i in range(count):
        raw = searcher.suggest(f"id{i}")
        suggestions.append(raw)
        result = {"epoch": 9, "score": objective(raw), COMPLETED_KEY: True}
        searcher.on_trial_result(f"id{i}", result)
        searcher.on_trial_complete(f"id{i}", result)
    return suggestions
