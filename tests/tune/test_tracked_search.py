"""Runs of a search for experiment trackers."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterable
from importlib import import_module
from pathlib import Path

from pipeline.training.run_folder import RunFolder
from pipeline.training.trackers.tracked_runs import TrackedRun
from tune.tracked_search import NESTED_RUNS, SEARCH_RUNS
from tune.trials import Point, SearchFolder, Trial, score_line


def read_runs(name: str, root: Path) -> dict[str, TrackedRun]:
    module, function = name.split(":")
    read: Callable[[Path], Iterable[TrackedRun]] = getattr(import_module(module), function)
    return {str(run.folder.relative_to(root)): run for run in read(root)}


def write_search(root: Path, **config: object) -> None:
    """Write a search of three trials, the second of which has inner folds and still runs."""
    folder = SearchFolder(root)
    folder.write_config({"config": config})
    folder.save(Trial(0, {"learning_rate": 0.1}, "stopped"))
    folder.save(Trial(1, {"learning_rate": 0.2}))
    folder.save(Trial(2, {"learning_rate": 0.3}, "failed", "an error"))
    RunFolder(folder.trial(0)).write_history([{"epoch": 1, "val_loss": 0.5}])
    for fold in (1, 2):
        (folder.trial(1) / f"fold_{fold}").mkdir(exist_ok=True)
    scores = [(0, 1, 0.5), (1, 1, 0.7), (1, 2, 0.6), (0, 2, 0.8)]
    lines = [score_line(number, Point(epoch, score, 1.0)) for number, epoch, score in scores]
    # The last line is being written.
    (root / "scores.jsonl").write_text("".join(lines) + '{"trial": 0, "ep')


def test_trials_are_children_of_their_search(tmp_path: Path) -> None:
    write_search(tmp_path)
    runs = read_runs(SEARCH_RUNS, tmp_path)
    trials = ["trials/0000", "trials/0001", "trials/0001/fold_1", "trials/0001/fold_2", "trials/0002"]
    assert list(runs) == [".", *trials]
    assert [run.parent for run in runs.values()] == [
        None, tmp_path, tmp_path, tmp_path / "trials/0001", tmp_path / "trials/0001", tmp_path,
    ]  # fmt: skip
    assert [run.has_ended for run in runs.values()] == [False, True, False, False, False, True]
    assert (runs["trials/0000"].state, runs["trials/0002"].state) == ("stopped", "failed")
    assert runs["trials/0001"].parameters == {"learning_rate": 0.2}
    assert runs["trials/0000"].name == f"{tmp_path.name}/0000"


def test_trial_with_inner_folds_has_their_score(tmp_path: Path) -> None:
    write_search(tmp_path)
    runs = read_runs(SEARCH_RUNS, tmp_path)
    assert runs["trials/0000"].history == [{"epoch": 1, "val_loss": 0.5}]
    assert runs["trials/0001"].history == [{"epoch": 1, "score": 0.7}, {"epoch": 2, "score": 0.6}]


def test_search_has_the_curve_of_its_best_score(tmp_path: Path) -> None:
    write_search(tmp_path, metric="val_accuracy")
    curve = read_runs(SEARCH_RUNS, tmp_path)["."].history
    assert [(row["epoch"], row["best_score"]) for row in curve] == [(1, 0.5), (2, 0.7), (4, 0.8)]
    write_search(tmp_path, model="gan", metric=None)
    assert [row["best_score"] for row in read_runs(SEARCH_RUNS, tmp_path)["."].history] == [0.5]


def opened_files(root: Path, look: Callable[[], object]) -> list[str]:
    """Return the files in a folder that a function opens, relative to it, sorted."""
    opened: list[str] = []
    is_active = [True]

    def note(event: str, arguments: tuple[object, ...]) -> None:
        if is_active[0] and event == "open" and str(arguments[0]).startswith(f"{root}{os.sep}"):
            opened.append(Path(str(arguments[0])).relative_to(root).as_posix())

    sys.addaudithook(note)  # cannot be removed
    look()
    is_active[0] = False
    return sorted({name for name in opened if (root / name).is_file()})


def test_only_files_that_have_changed_are_read_again(tmp_path: Path) -> None:
    def look() -> list[list[dict[str, object]]]:
        return [run.history for run in read_runs(SEARCH_RUNS, tmp_path).values()]

    write_search(tmp_path, metric="val_accuracy")
    long_ago = time.time() - 60
    for path in tmp_path.rglob("*"):
        os.utime(path, (long_ago, long_ago))
    trials = [f"trials/000{number}/trial.json" for number in range(3)]
    files = ["scores.jsonl", "search.json", "trials/0000/metrics.jsonl", *trials]
    assert opened_files(tmp_path, look) == files
    before = look()
    assert opened_files(tmp_path, look) == []
    assert look() == before
    RunFolder(tmp_path / "trials/0001/fold_1").write_history([{"epoch": 1, "val_loss": 0.4}])
    assert opened_files(tmp_path, look) == ["trials/0001/fold_1/metrics.jsonl"]
    assert look()[3] == [{"epoch": 1, "val_loss": 0.4}]


def test_nested_crossval_has_searches_and_arms(tmp_path: Path) -> None:
    write_search(tmp_path / "search_1")
    (tmp_path / "tuned/fold_1").mkdir(parents=True)
    runs = read_runs(NESTED_RUNS, tmp_path)
    kinds = {name: run.kind for name, run in runs.items() if "trials" not in name}
    assert kinds == {".": "run", "search_1": "search", "tuned": "crossval", "tuned/fold_1": "fold"}
    assert runs["search_1/trials/0001"].parent == tmp_path / "search_1"
