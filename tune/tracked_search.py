"""Runs of a search and of a nested cross-validation for experiment trackers: parent and child runs."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from pipeline.training.run_content import SEARCH_NAME
from pipeline.training.run_folder import TRIAL_NAME, RunFolder
from pipeline.training.trackers.file_cache import FILES
from pipeline.training.trackers.tracked_runs import State, TrackedRun, child_runs, subfolders
from tune.config import recorded_config
from tune.trials import SCORES_NAME, SearchFolder, better

# The functions below by name, as `tracked` takes them.
SEARCH_RUNS, NESTED_RUNS = f"{__name__}:search_runs", f"{__name__}:nested_runs"
_STATES: dict[str, State] = {"finished": "finished", "stopped": "stopped", "failed": "failed"}


def search_runs(root: Path) -> Iterator[TrackedRun]:
    """Yield a search, then each trial and its inner folds."""
    yield from _search_runs(TrackedRun(root, root.name, "search"))


def nested_runs(root: Path) -> Iterator[TrackedRun]:
    """Yield a nested cross-validation, its searches, and the runs that are trained with their results."""
    parent = TrackedRun(root, root.name, "run")
    yield parent
    for folder in subfolders(root):
        child = TrackedRun(folder, f"{root.name}/{folder.name}", "search", root)
        if folder.name.startswith("search_"):
            yield from _search_runs(child)
        elif folder.name in ("tuned", "base"):
            arm = replace(child, kind="crossval")
            yield arm
            yield from child_runs(arm)


def _search_runs(search: TrackedRun) -> Iterator[TrackedRun]:
    scores = FILES.read(search.folder / SCORES_NAME, partial(_read_scores, search.folder))
    yield replace(search, scores=_best_scores(search.folder, scores))
    trial_scores = _scores_by_trial(scores)
    for folder in subfolders(search.folder / "trials"):
        record = FILES.read(folder / TRIAL_NAME, partial(_read_trial, folder))
        if record is None:
            continue
        trial = TrackedRun(
            folder,
            f"{search.name}/{folder.name}",
            "trial",
            search.folder,
            has_ended=record["state"] != "running",
            state=_STATES.get(record["state"], "finished"),
            parameters=record["params"],
            scores=trial_scores.get(record["number"], []),
        )
        yield trial
        for fold in child_runs(trial):
            yield replace(fold, has_ended=trial.has_ended, state=trial.state)


def _read_trial(folder: Path) -> dict[str, Any] | None:
    return RunFolder(folder).read_object(TRIAL_NAME, ("number", "params", "state"))


def _scores_by_trial(scores: list[dict[str, Any]]) -> dict[int, list[dict[str, Any]]]:
    """Return epochs and scores of each trial by its number."""
    trials: dict[int, list[dict[str, Any]]] = {}
    for point in scores:
        entry = {"epoch": point["epoch"], "score": float(point["score"])}
        trials.setdefault(point["trial"], []).append(entry)
    return trials


def _read_scores(folder: Path) -> list[dict[str, Any]]:
    """Return the lines of `scores.jsonl`; the last one may be incomplete while it is written."""
    try:
        lines = (folder / SCORES_NAME).read_text(encoding="utf-8").splitlines(keepends=True)
    except FileNotFoundError:
        return []
    return [json.loads(line) for line in lines if line.endswith("\n")]


def _best_scores(folder: Path, scores: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return each improvement of a search, with the number of scored epochs of all trials as its epoch."""
    config = FILES.read(folder / SEARCH_NAME, partial(recorded_config, SearchFolder(folder)))
    if config is None:
        return []
    best_of = better(config.mode)
    improvements: list[dict[str, Any]] = []
    for number, point in enumerate(scores, start=1):
        score = float(point["score"])
        best = improvements[-1]["best_score"] if improvements else None
        if best is None or (score != best and best_of(score, best) == score):
            improvements.append({"epoch": number, "best_score": score})
    return improvements
