"""Log of a training run: metrics.jsonl, TensorBoard, and the current step in progress.json."""

from __future__ import annotations

import shutil
import tempfile
import time
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

from pipeline.distributed.ray_metrics import show_epoch
from pipeline.io.background import NewestValueWriter
from pipeline.io.console import logger
from pipeline.io.errors import report_os_errors
from pipeline.io.storage import is_remote
from pipeline.training.notes import Note, read_notes, write_notes
from pipeline.training.run_folder import RunFolder
from pipeline.training.trackers.run_files import epoch_values

PROGRESS_INTERVAL_S = 1.0
# Minimum seconds between two writes of a file to an object store, where each costs a request.
STORE_INTERVAL_S = 15.0


class RunLog:
    """Writes the log of a run on rank 0; a no-op on the other ranks."""

    def __init__(
        self,
        run: RunFolder,
        active: bool,
        history: list[dict[str, Any]],
        epochs: int,
        tensorboard: bool = True,
    ):
        """Open the log.

        Args:
            run: folder of the run.
            active: true on rank 0.
            history: metrics of the finished epochs; later lines of an interrupted run are removed.
            epochs: total number of epochs.
            tensorboard: whether to write files of TensorBoard.
        """
        self._run, self._active, self._epochs = run, active, epochs
        self._last_write = 0.0
        self._writer: Any = None
        self._notes: list[Note] = []
        if active:
            interval_s = STORE_INTERVAL_S if is_remote(run.path) else 0.0
            if tensorboard:
                self._open_tensorboard(interval_s, purge_step=len(history) + 1)
            self._notes = read_notes(run)
            run.write_history(history)
            # A write to an object store can take seconds. Best effort: if the disk is full, writing the
            # checkpoint reports it.
            self._progress = NewestValueWriter(
                partial(run.write_json, "progress.json"), "progress", interval_s
            )

    def _open_tensorboard(self, interval_s: float, purge_step: int) -> None:
        # Slow to import, and not needed on the other ranks.
        from torch.utils.tensorboard import SummaryWriter

        # An object store cannot append: the files, which are small, are uploaded again and again.
        remote = is_remote(self._run.path)
        self._target = self._run.path / "tensorboard"
        self._folder = Path(tempfile.mkdtemp(prefix="melray-")) if remote else self._target
        self._uploads = NewestValueWriter(self._upload, "tensorboard", interval_s)
        self._writer = SummaryWriter(str(self._folder), purge_step=purge_step)

    def step(self, epoch: int, step: int, steps: int, start_time: float) -> None:
        """Have the current step written, at most once per second; returns immediately.

        To an object store it is written at most every `STORE_INTERVAL_S`.

        Args:
            epoch: current epoch, 1-based.
            step: finished steps of the epoch.
            steps: number of steps per epoch.
            start_time: start of the epoch, by `time.perf_counter()`.
        """
        now = time.monotonic()
        if not self._active or now - self._last_write < PROGRESS_INTERVAL_S:
            return
        self._last_write = now
        seconds_per_step = (time.perf_counter() - start_time) / step
        steps_left = steps - step + steps * (self._epochs - epoch)
        progress = {
            "epoch": epoch,
            "epochs": self._epochs,
            "step": step,
            "steps": steps,
            "steps_per_second": 1 / seconds_per_step,
            "seconds_left": seconds_per_step * steps_left,
        }
        self._progress.put(progress)

    def epoch(self, history: list[dict[str, Any]]) -> None:
        """Write the metrics of the newest epoch."""
        if not self._active:
            return
        self._run.write_history(history)
        epoch_metrics = history[-1]
        if self._writer is not None:
            for tag, value in epoch_values(epoch_metrics).items():
                self._writer.add_scalar(tag, value, epoch_metrics["epoch"])
            self._writer.flush()
            if self._folder != self._target:
                self._uploads.put(None)
        show_epoch(self._run.path.name, epoch_metrics)

    def _upload(self, _: None) -> None:
        for file in self._folder.iterdir():
            (self._target / file.name).write_bytes(file.read_bytes())

    def warn(self, text: str) -> None:
        """Log a warning on this node, and on the console of the command that started the run."""
        self._add(Note(text))

    def note(self, text: str) -> None:
        """Log what is no warning, as `warn` does."""
        self._add(Note(text, is_warning=False))

    def _add(self, note: Note) -> None:
        if not self._active:
            return
        logger.log(note.level, "%s", note.text)
        self._notes.append(note)
        # Best effort: if the disk is full, writing the checkpoint reports it.
        with suppress(OSError):
            write_notes(self._run, self._notes)

    def close(self) -> None:
        """Close the TensorBoard files, and end the threads that write in the background."""
        if self._active:
            self._progress.close()
        if self._writer is not None:
            self._writer.close()
            self._uploads.close()
            if self._folder != self._target:
                shutil.rmtree(self._folder, ignore_errors=True)


def open_run_log(
    run: RunFolder, active: bool, history: list[dict[str, Any]], epochs: int, tensorboard: bool = True
) -> RunLog:
    """Open the log of a run; the arguments are those of `RunLog`.

    Raises:
        UserError: if it cannot be written.
    """
    with report_os_errors("writing to", run.path):
        return RunLog(run, active, history, epochs, tensorboard)
