"""Writes down what Ray Tune says of its trials, as it says it."""

from __future__ import annotations

import re
import time
from pathlib import Path
from typing import Any

import ray.tune

from pipeline.io.storage import remove_tree
from tune.trial.spec import TrialSpec
from tune.trial.trainable import DONE_KEY, ERROR_KEY, TRIAL_NUMBER_KEY, outcome
from tune.trials import Point, SearchFolder, Trial

# How the end of a process shows in Ray's errors, and what a person would call it.
_DEATHS = (
    (("OutOfMemory", "memory monitor"), "out of memory"),
    (("ActorDied", "ActorUnavailable", "WorkerCrashed", "died unexpectedly", "Connection closed", "Connection reset", "RayActorError"),
     "its worker was killed"),
)  # fmt: skip


class Recorder(ray.tune.Callback):
    """Keeps the trials of a search, and their folder, up to date."""

    def __init__(self, folder: SearchFolder, job: TrialSpec, max_epochs: int, known: list[Trial]):
        self.trials = {trial.number: trial for trial in known}
        self._folder, self._job, self._max_epochs = folder, job, max_epochs
        before = max((point.at for trial in known for point in trial.points), default=0.0)
        self._start = time.monotonic() - before
        self._told = {
            trial.number: max((point.epoch for point in trial.points), default=0) for trial in known
        }
        self._seconds = {trial.number: trial.seconds for trial in known}
        self._attempt: dict[int, float] = {}
        self.ending = False
        """The search is over for all: what ends now was not judged."""

    @property
    def elapsed(self) -> float:
        """Seconds since the search began, pauses between its sessions aside."""
        return time.monotonic() - self._start

    def on_trial_start(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        number = trial.config[TRIAL_NUMBER_KEY]
        record = self.trials.setdefault(number, Trial(number, {}))
        record.values = self._job.space.decode(trial.config)
        record.state = "running"
        self._seconds[number] = record.seconds
        self._attempt[number] = time.monotonic()
        self._folder.save(record)

    def on_trial_result(
        self, iteration: int, trials: list[Any], trial: Any, result: dict[str, Any], **info: Any
    ) -> None:
        if "score" not in result:
            return
        record = self._clock(trial)
        # A restarted trial tells its earlier epochs again; where values change, an epoch may truly come twice.
        if self._job.mutates_values or result["epoch"] > self._told.get(record.number, 0):
            if result.get(DONE_KEY) or result.get(ERROR_KEY):
                return  # the last one, once more
            self._told[record.number] = result["epoch"]
            point = Point(result["epoch"], result["score"], round(self.elapsed, 3))
            record.points.append(point)
            self._folder.append_score(record.number, point)

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        record = self._clock(trial)
        state = outcome(trial.last_result, self._max_epochs)
        if state == "failed":
            record.reason = trial.last_result[ERROR_KEY]
        if state != "stopped" or not self.ending:
            record.state = state
        self._close(record)

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        record = self._clock(trial)
        error = Path(trial.error_file).read_text() if trial.error_file else "unknown"
        record.state, record.reason = "failed", explain(error, trial.num_failures)
        self._close(record)

    def _clock(self, trial: Any) -> Trial:
        record = self.trials[trial.config[TRIAL_NUMBER_KEY]]
        began = self._attempt.get(record.number, time.monotonic())
        record.seconds = round(self._seconds.get(record.number, 0.0) + time.monotonic() - began, 3)
        return record

    def _close(self, record: Trial) -> None:
        self._folder.save(record)
        if record.state != "running" and not self._job.mutates_values:
            # It will never go on; the model stays.
            for checkpoints in self._folder.trial(record.number).glob("**/checkpoints"):
                remove_tree(checkpoints)


def explain(error: str, times: int) -> str:
    """One line for what Ray says of a failed trial."""
    for words, what in _DEATHS:
        if any(word in error for word in words):
            return f"{what}{f' {times} times' if times > 1 else ''}"
    lines = [line.strip() for line in error.splitlines() if line.strip()]
    told = [line for line in lines if re.match(r"[A-Za-z_.]*(Error|Exception|Interrupt)\b", line)]
    return (told or lines or ["unknown"])[-1]
