"""Trials of a search as Ray Tune's own result, for programs and notebooks that use Ray.

    from tune.result_grid import result_grid

    grid = result_grid("runs/search")
    print(grid.get_best_result(scope="all").config, grid.get_dataframe())

It is read from the folder of the search, which may be unfinished or in an object store. Ray is not started.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from pipeline.io.concurrent import map_concurrently
from pipeline.io.storage import storage_arguments, to_path
from pipeline.training.run_folder import RunFolder
from tune.config import SearchConfig, existing_config
from tune.trials import SearchFolder, Trial
from tune.trials_table import run_of_best_epoch

if TYPE_CHECKING:
    from ray.tune import ResultGrid

# A trial that is running, or was interrupted, has no error.
STATUS = {"failed": "ERROR", "running": "PAUSED"}


def result_grid(run: str | Path) -> ResultGrid:
    """Return the trials of a search as Ray Tune's result, by number.

    The metrics of a trial are those of its last epoch: `score`, also under the name of the metric, such as
    `val_macro_f1`; `training_iteration`, its epoch; `time_total_s`, seconds since the start of the search.
    `metrics_dataframe` has all epochs. `path` is the run folder with the trial's best epoch, and also its
    `checkpoint` once its training has ended.

    Args:
        run: folder of the search, or its URI.

    Raises:
        UserError: no search, or a damaged file.
    """
    from ray.tune import ExperimentAnalysis, ResultGrid, TuneError

    folder = SearchFolder(to_path(Path(run).absolute() if "://" not in str(run) else Path(run)))
    settings = existing_config(folder)
    records = {f"{trial.number:04d}": trial for trial in folder.read()}

    def as_ray_trial(trial: Trial) -> Any:
        return _ray_trial(folder, trial, settings)

    class Analysis(ExperimentAnalysis):
        def _fetch_trial_dataframe(self, trial: Any) -> pd.DataFrame:
            return pd.DataFrame(_results(records[trial.trial_id], settings.metric_name))

    class Grid(ResultGrid):
        @staticmethod
        def _populate_exception(trial: Any) -> TuneError | None:
            return TuneError(records[trial.trial_id].reason) if trial.status == "ERROR" else None

    arguments = storage_arguments(folder.path)
    analysis = Analysis(
        f"{arguments['storage_path']}/search.json",
        storage_filesystem=arguments.get("storage_filesystem"),
        trials=list(map_concurrently(as_ray_trial, records.values())),
        default_metric=settings.metric_name,
        default_mode=settings.mode,
    )
    return Grid(analysis)


def _results(trial: Trial, metric: str) -> list[dict[str, Any]]:
    """Return what a trial reported after each epoch, by Ray Tune's keys."""
    return [
        {
            "trial_id": f"{trial.number:04d}",
            "training_iteration": point.epoch,
            "time_total_s": point.elapsed_s,
            "score": point.score,
            metric: point.score,
        }
        for point in trial.points
    ]


def _ray_trial(folder: SearchFolder, trial: Trial, settings: SearchConfig) -> Any:
    """Return a trial in Ray Tune's form."""
    from ray.train._internal.storage import StorageContext
    from ray.tune.experiment import Trial as RayTrial

    arguments = storage_arguments(folder.path.parent)
    path, _ = run_of_best_epoch(folder, trial, settings.metric_name, settings.mode)
    ray_trial = RayTrial(
        "melray",
        config=dict(trial.params),
        trial_id=f"{trial.number:04d}",
        storage=StorageContext(
            experiment_dir_name=folder.path.name,
            trial_dir_name=str(path.relative_to(folder.path)),
            **arguments,
        ),
        stub=True,
    )
    for result in _results(trial, settings.metric_name):
        ray_trial.update_last_result({**result, "config": dict(trial.params)})
    ray_trial.set_status(STATUS.get(trial.state, "TERMINATED"))
    if RunFolder(folder.trial(trial.number)).read_json("summary.json") is not None:
        _register_checkpoint(ray_trial, path)
    return ray_trial


def _register_checkpoint(ray_trial: Any, path: Path) -> None:
    """Make the run folder of a trial its checkpoint."""
    from ray.train._internal.session import _TrainingResult
    from ray.tune import Checkpoint

    arguments = storage_arguments(path)
    checkpoint = Checkpoint(arguments["storage_path"], arguments.get("storage_filesystem"))
    ray_trial.run_metadata.checkpoint_manager.register_checkpoint(
        _TrainingResult(checkpoint, dict(ray_trial.last_result))
    )
