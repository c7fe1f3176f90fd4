"""Cross-validation of the search itself: each fold is held out from a search of its own, then scores what that found.

A score on clips that a search has seen says how well it searched them. Here no trial of a fold's search sees the held-out clips:
its best settings are trained on all the other folds, to the last epoch, and only then scored.
"""

from __future__ import annotations

import time
from typing import Any

import yaml
from pydantic import Field, model_validator

from pipeline.classifier.config import TrainClassifierConfig
from pipeline.classifier.crossval import CrossvalConfig, known_folds, report_folds
from pipeline.classifier.train import train_many
from pipeline.data.dataset import open_dataset
from pipeline.io.console import duration
from pipeline.training.run_folder import RunFolder
from tune.config import SearchConfig
from tune.search import base_values, check, search
from tune.trial.spec import base_settings


class NestedConfig(SearchConfig):
    """Searches and scores once for each fold (nested cross-validation); the settings are those of `tune`."""

    tta_shifts: int = Field(1, ge=1, le=64)
    """Averages each prediction over so many turns of the clip in time."""
    compare: bool = True
    """Also trains and scores the settings of --base in the same way: what was the search worth?"""

    @model_validator(mode="after")
    def _check_nested(self) -> NestedConfig:
        if self.model != "classifier":
            raise ValueError("crossval --tuned scores classifiers only: leave --model out")
        if self.fold is not None:
            raise ValueError(
                f"--fold {self.fold}: crossval --tuned holds out each fold in turn; leave it out"
            )
        if self.changes_values:
            raise ValueError(
                f"--scheduler {self.scheduler} finds a schedule that can't be trained again; use asha or none"
            )
        return self


def check_nested(config: NestedConfig) -> None:
    """Finds wrong settings before Ray is started.

    Raises:
        UserError, ConfigError: as `nested_crossval` would.
    """
    for number in known_folds(open_dataset(config.shards), base_config(config)):
        check(fold_search(config, number))


def nested_crossval(config: NestedConfig) -> dict[str, Any]:
    """Runs what is not done yet, writes `crossval.json` and a report below `tuned/` and `base/`; returns the figures.

    Raises:
        UserError, ConfigError: no folds, or as a search and a training do.
    """
    start = time.monotonic()
    rows = open_dataset(config.shards)
    base = base_config(config)
    folds = known_folds(rows, base)
    runs: dict[str, dict[int, TrainClassifierConfig]] = {"tuned": {}}
    for number in folds:
        print(f"\n== fold {number}, held out: searching on the others", flush=True)
        found = fold_search(config, number)
        search(found)
        best = yaml.safe_load((found.run / "best.yaml").read_text())
        runs["tuned"][number] = final_training(
            config, TrainClassifierConfig(shards=config.shards, run=found.run, **best), "tuned", number
        )
    if config.compare:
        runs["base"] = {number: final_training(config, base, "base", number) for number in folds}
    train_many({f"{kind}, fold {number}": run for kind, of in runs.items() for number, run in of.items()})
    result: dict[str, Any] = {}
    for kind, of in runs.items():
        print(f"\n{'the best of each search' if kind == 'tuned' else 'the base settings'}:")
        scored = CrossvalConfig(shards=config.shards, run=config.run / kind, tta_shifts=config.tta_shifts)
        result[kind] = report_folds(scored, rows, of, time.monotonic() - start)
    RunFolder(config.run).write_json("crossval.json", result)
    if config.compare:
        gains = [
            a["accuracy"] - b["accuracy"]
            for a, b in zip(result["tuned"]["folds"], result["base"]["folds"], strict=True)
        ]
        print(
            f"\nthe search was worth {sum(gains) / len(gains):+.1%} accuracy (by fold: {', '.join(f'{gain:+.1%}' for gain in gains)})"
        )
    print(f"in {duration(time.monotonic() - start)}", flush=True)
    return result


def base_config(config: NestedConfig) -> TrainClassifierConfig:
    """The settings of --base."""
    base = base_settings(config, base_values(config))
    assert isinstance(base, TrainClassifierConfig)
    return base


def fold_search(config: NestedConfig, number: int) -> SearchConfig:
    """The search that holds a fold out."""
    return config.subset(SearchConfig).model_copy(
        update={"fold": number, "run": config.run / f"search_{number}"}
    )


def final_training(
    config: NestedConfig, settings: TrainClassifierConfig, kind: str, number: int
) -> TrainClassifierConfig:
    """The training that the held-out fold scores: on all other clips, to the last epoch, so that nothing is chosen on any of them."""
    update = {
        "run": config.run / kind / f"fold_{number}",
        "fold": number,
        "val_fraction": 0.0,
        "val_split": None,
        "keep": "last",
    }
    return settings.model_copy(update=update | {"cpus_per_worker": config.cpus_per_worker})
