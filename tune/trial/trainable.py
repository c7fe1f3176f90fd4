"""A trial as Ray Tune runs it: one step is one epoch, and it goes on from its own folder.

Tune starts, stops and restarts it; what it goes on from are melray's own checkpoints. Only where values change while it trains
(pbt, pb2) does Tune keep a checkpoint, and that only says where melray's lies.
"""

from __future__ import annotations

import json
import time
import traceback
from collections.abc import Generator
from pathlib import Path
from typing import Any

import ray.tune
import torch

from pipeline.distributed.worker import is_worker_lost
from pipeline.io.errors import UserError, report_os_errors
from pipeline.io.storage import copy_tree, to_path
from tune.trial.scores import trial_scores
from tune.trial.spec import TrialSpec, open_trial_runs
from tune.trial.workers import TrialWorkers
from tune.trials import SearchFolder, State, better

# In the results that Tune gets, beside `epoch`, `score`, `best` so far, and `seconds` of this attempt.
ERROR_KEY, DONE_KEY = "fault", "ended"
# Of a trial's configuration, beside the values of its space.
TRIAL_NUMBER_KEY = "number"
_POINTER = "checkpoint.json"


def outcome(result: dict[str, Any], max_epochs: int) -> State:
    """What the last result of a trial that Tune ended says of it."""
    if result.get(ERROR_KEY):
        return "failed"
    return "finished" if result.get(DONE_KEY) or result.get("epoch", 0) >= max_epochs else "stopped"


class TrialTrainable(ray.tune.Trainable):
    """One trial, or, as processes are used again, one after the other."""

    def setup(self, config: dict[str, Any], job: TrialSpec) -> None:  # type: ignore[override]
        self._job, self._group = job, TrialWorkers(job)
        torch.set_num_threads(job.cpus)
        self._open(config)

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Takes on another trial, or other values."""
        self._leave()
        self._open(new_config)
        return True

    def _open(self, config: dict[str, Any]) -> None:
        self._number = int(config[TRIAL_NUMBER_KEY])
        self._raw = {key: value for key, value in config.items() if key in self._job.space.dimensions}
        self._source: Path | None = None
        self._scores: Generator[dict[str, Any], None, None] | None = None
        self._last: dict[str, Any] = {}
        self._start = time.monotonic()

    def step(self) -> dict[str, Any]:
        """One epoch that has a score. A fault is a result, as Tune would try an exception again; only a lost worker is worth that."""
        try:
            if self._scores is None:
                self._scores = self._begin()
            new = next(self._scores)
            best = better(self._job.mode)(new["score"], self._last.get("best", new["score"]))
            self._last = {**new, "best": best, "seconds": time.monotonic() - self._start}
            return dict(self._last)
        except StopIteration:
            return {**self._last, DONE_KEY: True, "done": True}
        except UserError as error:
            return {**self._last, ERROR_KEY: str(error), "done": True}
        except Exception as error:
            if is_worker_lost(error):
                raise
            return {**self._last, ERROR_KEY: self._unforeseen(error), "done": True}

    def _begin(self) -> Generator[dict[str, Any], None, None]:
        job = self._job
        settings = job.settings(self._number, job.space.decode(self._raw))
        if self._source is not None:
            for part, one in enumerate(settings):
                copy_tree(self._source / f"part_{part}", one.run / "checkpoints")
                (one.run / "summary.json").unlink(missing_ok=True)
        open_trial_runs(job, settings)
        return trial_scores(job, settings, self._group.begin(settings))

    def _unforeseen(self, error: Exception) -> str:
        """One line for an error of the code or of a library, which is kept whole in the trial's folder."""
        path = SearchFolder(self._job.folder).trial(self._number) / "error.txt"
        path.write_text("".join(traceback.format_exception(error)))
        last = str(error).strip().splitlines() or [""]
        return f"{type(error).__name__}: {last[-1].strip()} (all of it in {path})"

    def save_checkpoint(self, checkpoint_dir: str) -> None:
        """Sets the present checkpoints aside, for this trial or another to go on from, and writes where they are.

        They stay until the search ends: a trial that is to go on from them may start much later.
        """
        job = self._job
        kept = (
            SearchFolder(job.folder).trial(self._number)
            / "kept"
            / f"{self._last.get('epoch', 0):04d}_{time.time_ns():x}"
        )
        with report_os_errors("writing to", kept):
            for part, one in enumerate(job.settings(self._number, job.space.decode(self._raw))):
                copy_tree(one.run / "checkpoints", kept / f"part_{part}")
        (Path(checkpoint_dir) / _POINTER).write_text(json.dumps(str(kept)))

    def load_checkpoint(self, checkpoint: Any) -> None:
        """Goes on from where a checkpoint of this trial or another points to."""
        self._source = to_path(Path(json.loads((Path(checkpoint) / _POINTER).read_text())))

    def cleanup(self) -> None:
        """Ends the training between two epochs, and its other workers."""
        self._leave()
        self._group.close()

    def _leave(self) -> None:
        if self._scores is not None:
            self._scores.close()
        self._scores = None
        self._group.end()
