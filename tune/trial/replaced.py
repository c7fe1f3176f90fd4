"""Runs that trials of a population (PBT, PB2) lose when they continue from the model of another trial.

A trial that has fallen behind may have had the best model of the search. The run with that model is kept.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pipeline.io.errors import report_os_errors
from pipeline.io.storage import copy_tree
from pipeline.training.run_folder import RunFolder
from tune.trial.spec import TrialSpec
from tune.trials import SearchFolder, better

# Entries of a trial's folder that are not results of its run.
NOT_RESULTS = ("checkpoints", "saved_checkpoints", "trial.json")


def keep_replaced(spec: TrialSpec, number: int, run: Path) -> None:
    """Keep the run of a trial that is about to be replaced, unless it keeps one with a better model."""
    kept = _kept(spec, number)
    if _score(run, spec) is None or _better_run(spec, kept, run) == kept:
        return
    with report_os_errors("writing to", kept):
        copy_tree(run, kept, exclude=NOT_RESULTS)


def run_with_best_model(spec: TrialSpec, number: int, run: Path) -> Path:
    """Return the run of a trial, or the one that it replaced if that has a better model."""
    return _better_run(spec, run, _kept(spec, number))


def _kept(spec: TrialSpec, number: int) -> Path:
    return SearchFolder(spec.folder).replaced(number)


def _better_run(spec: TrialSpec, first: Path, second: Path) -> Path:
    """Return the run whose model has the better score; the first one of equals, or without scores."""
    scores = _score(first, spec), _score(second, spec)
    if None in scores:
        return second if scores[0] is None and scores[1] is not None else first
    return first if better(spec.mode)(*scores) == scores[0] else second


def _score(run: Path, spec: TrialSpec) -> Any:
    """Return the score of the epoch of a run's model; None without a model."""
    return ((RunFolder(run).read_json("model.json") or {}).get("training") or {}).get(spec.metric)
