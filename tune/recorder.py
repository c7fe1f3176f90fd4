"""Ray Tune callback that records states and scores of trials as they arrive."""

from __future__ import annotations

import re
import time
from pathlib import Path
from typing import Any

import ray.tune

from tune.search_writer import SearchWriter
from tune.trial.spec import TrialSpec
from tune.trial.trainable import COMPLETED_KEY, COPIED_KEY, ERROR_KEY, TRIAL_NUMBER_KEY, outcome
from tune.trials import Point, SearchFolder, Trial

# Patterns in Ray's errors about the death of a process, and its cause as shown to users.
_DEATH_CAUSES = {
    r"OutOfMemory|memory monitor": "out of memory",
    r"ActorDied|ActorUnavailable|RayActorError|WorkerCrashed|died unexpectedly|Connection (closed|reset)": (
        "its worker was killed"
    ),
}


class Recorder(ray.tune.Callback):
    """Keeps the records of all trials, in memory and in the folder of the search."""

    def __init__(self, folder: SearchFolder, spec: TrialSpec, max_epochs: int, known: list[Trial]):
        """Continue from the trials of earlier sessions, `known`."""
        self.trials = {trial.number: trial for trial in known}
        self._folder, self._spec, self._max_epochs = folder, spec, max_epochs
        self._writer = SearchWriter(folder)
        earlier = max((point.elapsed_s for trial in known for point in trial.points), default=0.0)
        self._start = time.monotonic() - earlier
        self._earlier_seconds = {trial.number: trial.seconds for trial in known}
        self._attempt_starts: dict[int, float] = {}
        self._copies: dict[int, Any] = {}
        self.is_ending = False
        """Whether the whole search is ending: trials that end now were not stopped by the scheduler."""

    @property
    def elapsed_s(self) -> float:
        """Seconds since the start of the search, without the time between its sessions."""
        return time.monotonic() - self._start

    def on_trial_start(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """Record a trial that starts or restarts."""
        record = self._record(trial)
        record.params = self._spec.space.decode(trial.config)
        record.state, record.resources = "running", self._spec.resources
        self._earlier_seconds[record.number] = record.seconds
        self._attempt_starts[record.number] = time.monotonic()
        self._writer.save(record)

    def on_trial_result(
        self, iteration: int, trials: list[Any], trial: Any, result: dict[str, Any], **info: Any
    ) -> None:
        """Record a score."""
        if "score" not in result:
            return
        record = self._update_time(trial)
        # A restarted trial reports earlier epochs again, and a last result the last score.
        last_epoch = record.points[-1].epoch if record.points else 0
        if self._starts_copy(trial, result) or result["epoch"] > last_epoch:
            point = Point(result["epoch"], result["score"], round(self.elapsed_s, 3), result.get("loss"))
            record.points.append(point)
            self._writer.append_score(record.number, point)

    def _starts_copy(self, trial: Any, result: dict[str, Any]) -> bool:
        """Return whether a trial (PBT, PB2) has continued from another one since its last result.

        Its epochs are then new ones, also if it had trained the same number before. Restarted from the same
        checkpoint, as after the loss of its worker, it repeats them.
        """
        number = trial.config[TRIAL_NUMBER_KEY]
        copy = (result.get(COPIED_KEY), dict(trial.config))
        if copy[0] is None or copy == self._copies.get(number):
            return False
        self._copies[number] = copy
        return True

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """Record the end of a trial: finished, stopped, or failed with an error that it reported."""
        if trial.config[TRIAL_NUMBER_KEY] not in self.trials:
            return  # the search ends before it could start
        record = self._update_time(trial)
        state = outcome(trial.last_result, self._max_epochs)
        if state == "failed":
            record.reason = trial.last_result[ERROR_KEY]
        # Also after its last epoch a trial may have ended before it was complete.
        if not self.is_ending or state == "failed" or trial.last_result.get(COMPLETED_KEY):
            record.state = state
        self._close(record)

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """Record a trial whose worker was lost too often, perhaps each time before the trial could start."""
        record = self._update_time(trial)
        error = Path(trial.error_file).read_text(encoding="utf-8") if trial.error_file else "unknown"
        record.state, record.reason = "failed", failure_reason(error, trial.num_failures)
        self._close(record)

    def _record(self, trial: Any) -> Trial:
        """Return the record of a trial, a new one for a trial that has not started."""
        number = trial.config[TRIAL_NUMBER_KEY]
        if number not in self.trials:
            self.trials[number] = Trial(number, self._spec.space.decode(trial.config))
        return self.trials[number]

    def _update_time(self, trial: Any) -> Trial:
        record = self._record(trial)
        start = self._attempt_starts.get(record.number, time.monotonic())
        earlier = self._earlier_seconds.get(record.number, 0.0)
        record.seconds = round(earlier + time.monotonic() - start, 3)
        return record

    def _close(self, record: Trial) -> None:
        self._writer.save(record)
        if record.state != "running" and not self._spec.mutates_params:
            # The trial will not be resumed; its model is kept.
            self._writer.delete_checkpoints(record.number)

    def close(self) -> None:
        """Write what is left to be written.

        Raises:
            UserError, OSError: it could not be written.
        """
        self._writer.close()


def failure_reason(error: str, failures: int) -> str:
    """Summarize the error text of Ray for a trial in one line, after `failures` failures."""
    for pattern, cause in _DEATH_CAUSES.items():
        if re.search(pattern, error):
            return f"{cause}{f' {failures} times' if failures > 1 else ''}"
    lines = [line.strip() for line in error.splitlines() if line.strip()]
    exceptions = [line for line in lines if re.match(r"[A-Za-z_.]*(Error|Exception|Interrupt)\b", line)]
    return (exceptions or lines or ["unknown"])[-1]
