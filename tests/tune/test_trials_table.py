"""Trials of a search as a table with all metrics, read without Ray."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from pipeline.io.errors import UserError
from pipeline.training.run_folder import RunFolder
from tests.tune.test_result_grid import search as search  # a fixture
from tune.trials import Point, SearchFolder, Trial
from tune.trials_table import read_search, trials_table


def test_best_trial_is_first_with_metrics_of_its_best_epoch(search: Path) -> None:
    history = [
        {
            "epoch": epoch,
            "val_accuracy": 0.1 * epoch,
            "val_macro_f1": 0.5,
            "seconds": 9.0,
            "learning_rate": 1.0,
        }
        for epoch in (1, 2, 3)
    ]
    RunFolder(SearchFolder(search).trial(0)).write_history(history)
    table = read_search(str(search))
    assert table["trial"].to_list() == [1, 0, 2, 3] and table.index.to_list() == [0, 1, 2, 3]
    assert table["state"].to_list() == ["stopped", "finished", "failed", "running"]
    assert table["learning_rate"].to_list() == [2e-3, 1e-3, 9e-3, 4e-3]
    assert table.loc[1, ["score", "best_epoch", "val_accuracy"]].to_list() == [0.7, 2, 0.2]
    # The seconds of a trial, not of its epoch; the setting, not its value in that epoch.
    assert list(table)[:8] == [
        *("trial", "state", "score", "best_epoch", "epochs", "seconds", "reason", "learning_rate")
    ]
    assert table.columns.is_unique and table["seconds"].to_list() == [12.0, 20.0, 1.0, 0.0]
    assert pd.isna(table.loc[0, "val_accuracy"]) and table["reason"][2] == "the loss is nan"
    assert Path(table["path"][1]) == search / "trials" / "0000"
    assert table.attrs == {"metric": "val_macro_f1", "mode": "max"}


def test_trial_that_copied_another_one_has_metrics_and_folder_of_its_best_epoch(search: Path) -> None:
    folder = SearchFolder(search)
    folder.replaced(0).mkdir(parents=True)
    for run, scores in ((folder.trial(0), (0.4, 0.6, 0.65)), (folder.replaced(0), (0.5, 0.7))):
        lines = [
            {"epoch": epoch, "val_macro_f1": score, "val_accuracy": score + 0.1}
            for epoch, score in enumerate(scores, 1)
        ]
        RunFolder(run).write_history(lines)
    row = read_search(search).set_index("trial").loc[0]
    assert row[["score", "best_epoch", "val_macro_f1"]].to_list() == [0.7, 2, 0.7]
    assert row["val_accuracy"] == pytest.approx(0.8) and Path(row["path"]) == folder.replaced(0)


def test_epochs_are_those_that_a_trial_trained_itself() -> None:
    points = {0: (1, 2, 3, 4), 1: (1, 2, 4)}  # the second one copied the first one at epoch 3
    trials = [
        Trial(number, {}, points=[Point(epoch, 0.1 * epoch, 1.0) for epoch in epochs])
        for number, epochs in points.items()
    ]
    assert trials_table(trials, "max").set_index("trial")["epochs"].to_dict() == {0: 4, 1: 3}


def test_metrics_of_inner_folds_are_averaged(search: Path) -> None:
    for fold, accuracy in ((1, 0.5), (2, 0.7)):
        folder = SearchFolder(search).trial(1) / f"fold_{fold}"
        folder.mkdir()
        RunFolder(folder).write_history([{"epoch": 1, "val_accuracy": accuracy}])
    assert read_search(search)["val_accuracy"][0] == pytest.approx(0.6)


def test_folder_without_search_is_error(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no search in it"):
        read_search(tmp_path)


def test_inner_fold_that_stopped_before_has_metrics_of_its_last_epoch(search: Path) -> None:
    best = int(read_search(search)["best_epoch"][1])
    for fold, epochs, accuracy in ((1, best - 1, 0.6), (2, best + 1, 0.9)):
        folder = SearchFolder(search).trial(0) / f"fold_{fold}"
        folder.mkdir()
        history = [{"epoch": epoch + 1, "val_accuracy": accuracy} for epoch in range(epochs)]
        RunFolder(folder).write_history(history)
    assert best >= 2 and read_search(search)["val_accuracy"][1] == pytest.approx(0.75)
