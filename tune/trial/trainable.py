"""A trial as a Ray Tune trainable: one step is one epoch; a trial resumes from its own run folder.

Ray Tune starts, stops and restarts trials, but they resume from melray's checkpoints. Only if the scheduler
changes hyperparameters (PBT, PB2) does Ray Tune keep a checkpoint, which holds just the path of melray's.
"""

from __future__ import annotations

import json
import time
import traceback
from collections.abc import Generator
from pathlib import Path
from typing import Any

import ray.tune

from pipeline.distributed.failures import is_gpu_memory_error, is_worker_lost, training_memory_error
from pipeline.distributed.worker import set_up_training
from pipeline.io.errors import UserError, report_os_errors
from pipeline.io.files import write_bytes_atomically
from pipeline.io.storage import copy_tree, to_path
from pipeline.training.model_file import METADATA_NAME, MODEL_NAME
from tune.trial.replaced import keep_replaced
from tune.trial.scores import trial_scores
from tune.trial.spec import TrialSpec, open_trial_runs
from tune.trial.workers import TrialWorkers
from tune.trials import SearchFolder, State, better

# Keys of results, in addition to `epoch`, `score`, `best` (score so far) and `seconds` (of this attempt).
ERROR_KEY, COMPLETED_KEY = "error", "completed"
# Key of a result: checkpoint of another trial from which this one continues.
COPIED_KEY = "copied_from"
# Key of a trial's Ray Tune configuration, in addition to the keys of the search space.
TRIAL_NUMBER_KEY = "trial_number"
_POINTER_FILE = "checkpoint.json"


def outcome(result: dict[str, Any], max_epochs: int) -> State:
    """Return the final state of a trial from its last result."""
    if result.get(ERROR_KEY):
        return "failed"
    return "finished" if result.get(COMPLETED_KEY) or result.get("epoch", 0) >= max_epochs else "stopped"


class TrialTrainable(ray.tune.Trainable):
    """Trainable for one trial; Ray Tune reuses its process for later trials."""

    def setup(self, config: dict[str, Any], spec: TrialSpec) -> None:  # type: ignore[override]
        """Prepare the process and its first trial."""
        self._spec, self._workers = spec, TrialWorkers(spec)
        set_up_training(spec.cpus)
        self._open(config)

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Switch to another trial, or to other hyperparameters."""
        self._close()
        self._open(new_config)
        return True

    def _open(self, config: dict[str, Any]) -> None:
        self._number = int(config[TRIAL_NUMBER_KEY])
        self._raw_params = {key: value for key, value in config.items() if key in self._spec.space.dimensions}
        self._source: Path | None = None
        self._scores: Generator[dict[str, Any], None, None] | None = None
        self._last_metrics: dict[str, Any] = {}
        self._start = time.monotonic()

    def step(self) -> dict[str, Any]:
        """Train until the next epoch that has a score.

        Errors are returned as results: after an exception Ray Tune would retry, which is useful only if a
        worker was lost.
        """
        try:
            if self._scores is None:
                self._scores = self._start_training()
            new = next(self._scores)
            best = better(self._spec.mode)(new["score"], self._last_metrics.get("best", new["score"]))
            self._last_metrics = {**new, "best": best, "seconds": time.monotonic() - self._start}
            if self._is_copy:
                self._last_metrics[COPIED_KEY] = str(self._source)
            return dict(self._last_metrics)
        except StopIteration:
            return {**self._last_metrics, COMPLETED_KEY: True, "done": True}
        except Exception as error:
            cause = self._workers.cause_of(error)
            if is_worker_lost(cause):
                raise
            return {**self._last_metrics, ERROR_KEY: self._describe(cause), "done": True}

    @property
    def _is_copy(self) -> bool:
        """Whether the trial continues from the checkpoint of another one."""
        own = SearchFolder(self._spec.folder).trial(self._number)
        return self._source is not None and not self._source.is_relative_to(own)

    def _settings(self) -> list[Any]:
        return self._spec.settings(self._number, self._spec.space.decode(self._raw_params))

    def _start_training(self) -> Generator[dict[str, Any], None, None]:
        settings = self._settings()
        if self._source is not None:
            if self._is_copy:
                keep_replaced(self._spec, self._number, settings[0].run)
            for fold, config in enumerate(settings, start=1):
                # If the search is killed in between, training must not take the old model for the copied one.
                (config.run / METADATA_NAME).unlink(missing_ok=True)
                copy_tree(self._source / f"fold_{fold}", config.run / "checkpoints")
                _copy_model(self._source / f"model_{fold}", config.run)
                (config.run / "summary.json").unlink(missing_ok=True)
        open_trial_runs(self._spec, settings)
        # Epochs before a copy are those of another trial, or were reported when the copy was made.
        only_new = self._source is not None
        return trial_scores(self._spec, settings, self._workers.begin(settings, only_new), only_new)

    def _describe(self, error: BaseException) -> str:
        """Return an error in one line."""
        if isinstance(error, UserError):
            return str(error)
        if is_gpu_memory_error(error):
            return str(training_memory_error(error, self._settings()[0]))
        return self._write_traceback(error)

    def _write_traceback(self, error: BaseException) -> str:
        """Write the traceback of an unexpected error to the trial's folder; return the error as one line."""
        path = SearchFolder(self._spec.folder).trial(self._number) / "error.txt"
        path.write_text("".join(traceback.format_exception(error)), encoding="utf-8")
        last_line = (str(error).strip().splitlines() or [""])[-1].strip()
        return f"{type(error).__name__}: {last_line} (traceback: {path})"

    def save_checkpoint(self, checkpoint_dir: str) -> None:
        """Copy the current checkpoints, for this or another trial to resume from, and write the copy's path.

        Copies are kept until the search ends: a trial that resumes from one may start much later.
        """
        name = f"{self._last_metrics.get('epoch', 0):04d}_{time.time_ns():x}"
        target = SearchFolder(self._spec.folder).trial(self._number) / "saved_checkpoints" / name
        with report_os_errors("writing to", target):
            for fold, config in enumerate(self._settings(), start=1):
                copy_tree(config.run / "checkpoints", target / f"fold_{fold}")
                _copy_model(config.run, target / f"model_{fold}")
        (Path(checkpoint_dir) / _POINTER_FILE).write_text(json.dumps(str(target)), encoding="utf-8")

    def load_checkpoint(self, checkpoint: Any) -> None:
        """Resume from the copy that a checkpoint of this trial or another points to."""
        self._source = to_path(
            Path(json.loads((Path(checkpoint) / _POINTER_FILE).read_text(encoding="utf-8")))
        )

    def cleanup(self) -> None:
        """Stop training between two epochs, and stop the other workers."""
        self._close()
        self._workers.close()

    def _close(self) -> None:
        if self._scores is not None:
            self._scores.close()
        self._scores = None
        self._workers.end()


def _copy_model(source: Path, target: Path) -> None:
    """Copy the model of the best epoch so far, which the checkpoints refer to, if there is one.

    Otherwise the trial that resumes would keep its own, of an epoch that is no longer in its history.
    """
    for path in (source / MODEL_NAME, source / METADATA_NAME):
        if path.is_file():
            target.mkdir(parents=True, exist_ok=True)
            write_bytes_atomically(target / path.name, path.read_bytes())
