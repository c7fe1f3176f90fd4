"""Trials of a search as `ray.tune.ResultGrid`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import ray

from pipeline.io.errors import UserError
from pipeline.training.run_folder import RunFolder
from tests.tune.searches import search_config
from tests.tune.test_result import TRIALS
from tune.result_grid import result_grid
from tune.trials import SearchFolder, score_line


@pytest.fixture
def search(tmp_path: Path) -> Path:
    """Write the folder of a search whose first trial has ended."""
    folder = SearchFolder(tmp_path / "search")
    config = search_config(run=folder.path).to_dict()
    folder.write_config({"config": {key: config[key] for key in ("model", "metric", "trials")}})
    for trial in TRIALS:
        folder.save(trial)
        folder.append_scores(score_line(trial.number, point) for point in trial.points)
    RunFolder(folder.trial(0)).write_json("summary.json", {"epochs": 2})
    return folder.path


def test_grid_holds_all_trials_without_starting_ray(search: Path) -> None:
    grid = result_grid(search)
    assert isinstance(grid, ray.tune.ResultGrid) and len(grid) == 4 and not ray.is_initialized()
    assert (grid.num_terminated, grid.num_errors) == (2, 1)
    assert [str(error) for error in grid.errors] == ["the loss is nan"]
    frame = grid.get_dataframe().set_index("trial_id")
    assert frame["config/learning_rate"].to_dict() == {"0000": 1e-3, "0001": 2e-3}
    assert frame["val_macro_f1"].to_dict() == {"0000": 0.7, "0001": 0.75}


def test_best_result_has_path_epochs_and_checkpoint(search: Path) -> None:
    grid = result_grid(str(search))
    best = grid.get_best_result()
    assert best.config == {"learning_rate": 2e-3} and best.metrics["score"] == 0.75
    assert best.path == str(search / "trials" / "0001") and best.checkpoint is None
    first = grid[0]
    assert first.metrics_dataframe["training_iteration"].to_list() == [1, 2]
    assert first.checkpoint is not None and first.checkpoint.path == str(search / "trials" / "0000")


def test_path_is_the_run_with_the_best_epoch(search: Path) -> None:
    folder = SearchFolder(search)
    for run, score in ((folder.trial(0), 0.3), (folder.replaced(0), 0.7)):
        run.mkdir(parents=True, exist_ok=True)
        lines = [{"epoch": 1, "val_macro_f1": 0.2}, {"epoch": 2, "val_macro_f1": score}]
        (run / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    first = result_grid(search)[0]
    assert first.path == str(search / "replaced" / "0000")
    assert first.checkpoint is not None and first.checkpoint.path == first.path


def test_folder_without_a_search_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no search in it"):
        result_grid(tmp_path)
