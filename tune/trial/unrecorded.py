"""Epochs that a trial trained, but of which the driver got no score, as the search ended before.

The model of such an epoch may be the best of its trial. When the search is resumed, the trial reports them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from pipeline.training.run_folder import RunFolder
from tune.trial.spec import TrialSpec
from tune.trials import Point, Trial


def with_unrecorded_epochs(spec: TrialSpec, trials: Sequence[Trial]) -> list[Trial]:
    """Return trials with the scores of all epochs that their run folders have.

    Only of unfinished trials of one run: epochs of populations (PBT, PB2) may be those of another trial, and
    inner folds may differ in their number.
    """
    if spec.mutates_params or spec.inner_folds > 1:
        return list(trials)
    return [_complete(spec, trial) if trial.state == "running" else trial for trial in trials]


def _complete(spec: TrialSpec, trial: Trial) -> Trial:
    last = trial.points[-1] if trial.points else Point(0, 0.0, 0.0)
    (settings,) = spec.settings(trial.number, trial.params)
    new = [
        Point(metrics["epoch"], float(metrics[spec.metric]), last.elapsed_s, metrics.get("val_loss"))
        for metrics in RunFolder(settings.run).read_history()
        if metrics["epoch"] > last.epoch and spec.metric in metrics
    ]
    return replace(trial, points=[*trial.points, *new])
