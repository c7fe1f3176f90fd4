"""What a training tells while it runs: metrics.jsonl, TensorBoard, and where the epoch stands."""

from __future__ import annotations

import shutil
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from pipeline.io.errors import report_os_errors
from pipeline.io.storage import is_remote
from pipeline.training.run_folder import RunFolder

PROGRESS_SECONDS = 1.0


class RunLog:
    """Writes the log of a run; on all workers but the first it does nothing."""

    def __init__(self, run: RunFolder, active: bool, history: list[dict[str, Any]], epochs: int):
        """`history` holds the epochs already done; what a broken run logged beyond them is dropped."""
        self._run, self._active, self._epochs = run, active, epochs
        self._last = 0.0
        self._writer: Any = None
        if active:
            # Slow to import, and of no use to the other workers.
            from torch.utils.tensorboard import SummaryWriter

            # To a store the files are sent anew after each epoch: they are small, and it can't be added to.
            self._target = run.path / "tensorboard"
            self._folder = Path(tempfile.mkdtemp(prefix="melray-")) if is_remote(run.path) else self._target
            self._writer = SummaryWriter(str(self._folder), purge_step=len(history) + 1)
            run.write_history(history)

    def step(self, epoch: int, step: int, steps: int, start: float) -> None:
        """Notes where the epoch stands, at most once a second; `start` is its `time.perf_counter()`."""
        now = time.monotonic()
        if not self._active or now - self._last < PROGRESS_SECONDS:
            return
        self._last = now
        per_step = (time.perf_counter() - start) / step
        left = per_step * (steps - step + steps * (self._epochs - epoch))
        place = {"epoch": epoch, "epochs": self._epochs, "step": step, "steps": steps}
        # A comfort only: if the disk is full, the checkpoint will say so.
        with suppress(OSError):
            self._run.write_json(
                "progress.json", {**place, "steps_per_second": 1 / per_step, "seconds_left": left}
            )

    def epoch(self, history: list[dict[str, Any]]) -> None:
        """Adds the newest epoch."""
        if not self._active:
            return
        self._run.write_history(history)
        line = history[-1]
        for name, value in line.items():
            if isinstance(value, float):
                self._writer.add_scalar(
                    name.replace("train_", "train/").replace("val_", "val/"), value, line["epoch"]
                )
        self._writer.flush()
        if self._folder != self._target:
            for file in self._folder.iterdir():
                (self._target / file.name).write_bytes(file.read_bytes())

    def close(self) -> None:
        """Ends the log."""
        if self._writer is not None:
            self._writer.close()
            if self._folder != self._target:
                shutil.rmtree(self._folder, ignore_errors=True)


def open_run_log(run: RunFolder, active: bool, history: list[dict[str, Any]], epochs: int) -> RunLog:
    """The log of a run from where it stands; arguments as of `RunLog`.

    Raises:
        UserError: when it can't be written.
    """
    with report_os_errors("writing to", run.path):
        return RunLog(run, active, history, epochs)
