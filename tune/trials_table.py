"""Table of the trials of a search: `trials.csv`, and for programs and notebooks with all metrics."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from pipeline.io.concurrent import map_concurrently
from pipeline.io.storage import user_path
from pipeline.training.run_folder import RunFolder
from tune.config import existing_config
from tune.trials import Mode, SearchFolder, Trial, trained_epochs


def trials_table(trials: list[Trial], mode: Mode) -> pd.DataFrame:
    """Return one row per trial: state, score, epochs and seconds, then its hyperparameters.

    The best one is first; failed ones are last, with those that have no score.
    """
    records, num_epochs = [], trained_epochs(trials)
    for trial in trials:
        point = trial.best(mode)
        records.append(
            {
                "trial": trial.number,
                "state": trial.state,
                "score": point.score if point else None,
                "best_epoch": point.epoch if point else None,
                "epochs": num_epochs[trial.number],
                "seconds": trial.seconds,
                "reason": trial.reason,
                **trial.params,
            }
        )
    table = pd.DataFrame(records)
    if len(table):
        # A failed trial cannot be the best, whatever it scored before.
        ranked = table["score"].where(table["state"] != "failed").astype(float)
        ranked = ranked.sort_values(ascending=mode == "min", kind="stable", na_position="last")
        table = table.loc[ranked.index]
    return table


def read_search(run: str | Path) -> pd.DataFrame:
    """Read the trials of a search of `melray tune`, finished or not. Ray is not started.

    Example:
        >>> trials = melray.read_search("runs/search")
        >>> trials.plot.scatter("learning_rate", "score", logx=True)
        >>> trials.iloc[0][["trial", "score", "val_accuracy"]]

    Args:
        run: folder of the search, or its URI.

    Returns:
        A row per trial, best first and failed ones last: `trial`, its number; `state` (finished, stopped,
        failed, running); `score`, of its best epoch `best_epoch`; `epochs` that it trained, without those of
        trials that it copied (PBT, PB2); `seconds`; `reason` of a failure; the hyperparameters by dotted key;
        all metrics of the best epoch, with inner folds their means; and `path`, the run folder with this
        epoch, for `read_run`. `attrs` has the metric (`metric`) and whether a high one is better (`mode`: max
        or min).

    Raises:
        UserError: no search, or a damaged file.
    """
    folder = SearchFolder(user_path(run))
    settings = existing_config(folder)
    trials = folder.read()
    table = trials_table(trials, settings.mode)
    if len(table):
        metrics = _metrics(folder, trials, settings.metric_name, settings.mode)
        # The seconds of an epoch are not those of the trial.
        metrics = metrics.drop(columns=[name for name in metrics if name in table and name != "trial"])
        table = table.merge(metrics, on="trial")
    table = table.reset_index(drop=True)
    table.attrs.update(metric=settings.metric_name, mode=settings.mode)
    return table


def _metrics(folder: SearchFolder, trials: list[Trial], metric: str, mode: Mode) -> pd.DataFrame:
    """Return the metrics of the best epoch of each trial by its number, and its path."""

    def read(trial: Trial) -> dict[str, Any]:
        path, metrics = run_of_best_epoch(folder, trial, metric, mode)
        return {"trial": trial.number, **metrics, "path": str(path)}

    return pd.DataFrame(list(map_concurrently(read, trials)))


def run_of_best_epoch(
    folder: SearchFolder, trial: Trial, metric: str, mode: Mode
) -> tuple[Path, dict[str, float]]:
    """Return the folder of a trial's run with its best epoch, and the metrics of the epoch if they are there.

    After a trial has copied another one (PBT, PB2), its own folder has the epochs of that one.
    """
    path, point = folder.trial(trial.number), trial.best(mode)
    if point is None:
        return path, {}
    metrics, replaced = _epoch_metrics(path, point.epoch), folder.replaced(trial.number)
    if metrics.get(metric) != point.score and replaced.is_dir():
        return replaced, _epoch_metrics(replaced, point.epoch)
    return path, metrics


def _epoch_metrics(path: Path, epoch: int) -> dict[str, float]:
    """Return the metrics of an epoch of a trial, the mean over its inner folds; empty if they are missing.

    A fold that stopped before has those of its last epoch, as in the score.
    """
    runs = [path] if (path / "metrics.jsonl").is_file() else sorted(path.glob("fold_*"))
    histories = [RunFolder(run).read_history() for run in runs]
    until = [[line for line in history if line.get("epoch", 0) <= epoch] for history in histories]
    lines = [history[-1] for history in until if history]
    names = [name for name, value in (lines[0] if lines else {}).items() if isinstance(value, int | float)]
    return {
        name: float(np.mean([line[name] for line in lines]))
        for name in names
        if name != "epoch" and all(isinstance(line.get(name), int | float) for line in lines)
    }
