"""Progress of training runs on the console, read from their run folders: the workers may be on any node."""

from __future__ import annotations

from typing import Any

from rich.text import Text

from pipeline.io.console import LiveDisplay, duration, logger
from pipeline.io.storage import is_remote
from pipeline.training.notes import read_notes
from pipeline.training.run_folder import RunFolder

# Seconds between two looks at the files of a run; in an object store each look costs three requests.
INTERVAL_S, STORE_INTERVAL_S = 0.5, 10.0


class TrainingProgress(LiveDisplay):
    """Logs a line per epoch of each run while the block runs, and shows the current step on a terminal."""

    def __init__(self, runs: dict[str, RunFolder]):
        """`runs` maps names, used as prefixes of log lines, to run folders; a single run may be named ""."""
        remote = any(is_remote(run.path) for run in runs.values())
        super().__init__(STORE_INTERVAL_S if remote else INTERVAL_S)
        self._runs = runs
        self._notes_logged = {name: len(read_notes(run)) for name, run in runs.items()}
        self._epochs_logged = {name: len(run.read_history()) for name, run in runs.items()}

    def _steps(self) -> str:
        lines = []
        for name, run in self._runs.items():
            progress = run.read_json("progress.json")
            # Not of an epoch that has ended, which may be the last one of a run.
            if progress is not None and progress["epoch"] > self._epochs_logged[name]:
                lines.append(step_line(name, progress))
        return "\n".join(lines)

    def _render(self) -> Text:
        return Text(self._steps())

    def _log_heartbeat(self) -> None:
        if steps := self._steps():
            logger.info("%s", steps.replace("\n", "; "))

    def _log_events(self) -> bool:
        logged = False
        for name, run in self._runs.items():
            notes = read_notes(run)
            for note in notes[self._notes_logged[name] :]:
                logger.log(note.level, "%s", f"{name}{': ' if name else ''}{note.text}")
                logged = True
            self._notes_logged[name] = len(notes)
            history = run.read_history()
            # Fewer epochs than before: the run was rolled back to a checkpoint.
            for epoch_metrics in history[min(self._epochs_logged[name], len(history)) :]:
                logger.info("%s", f"{name}{': ' if name else ''}{epoch_line(epoch_metrics)}")
                logged = True
            self._epochs_logged[name] = len(history)
        return logged


def step_line(name: str, progress: dict[str, Any]) -> str:
    """Current step of an epoch as text."""
    return (
        f"{name}{', ' if name else ''}epoch {progress['epoch']} of {progress['epochs']}: "
        f"step {progress['step']} of {progress['steps']}, {progress['steps_per_second']:.1f} steps/s, "
        f"{duration(progress['seconds_left'])} left"
    )


def epoch_line(metrics: dict[str, Any]) -> str:
    """Metrics of an epoch as text, of a classifier or of a GAN."""
    if "generator_loss" in metrics:
        return _gan_epoch_line(metrics)
    text = f"epoch {metrics['epoch']}: train loss {metrics['train_loss']:.3f}"
    if "val_loss" in metrics:
        if "val_map" in metrics:
            score = f"macro average precision {metrics['val_map']:.3f}"
        else:
            score = f"accuracy {metrics['val_accuracy']:.1%}"
        text += (
            f", validation loss {metrics['val_loss']:.3f}, {score}, macro-F1 {metrics['val_macro_f1']:.3f}"
        )
    text += f", {metrics['samples_per_second']:,.0f} samples/s"
    return text + (", best" if metrics["best"] and "val_loss" in metrics else "")


def _gan_epoch_line(metrics: dict[str, Any]) -> str:
    text = f"epoch {metrics['epoch']}: D loss {metrics['discriminator_loss']:.3f}"
    text += f", G loss {metrics['generator_loss']:.3f}"
    # None if the classes have no variety.
    if metrics["diversity"] is not None:
        text += f", diversity {metrics['diversity']:.0%}"
    if "class_accuracy" in metrics:
        text += f", class accuracy {metrics['class_accuracy']:.0%}"
    if "frechet" in metrics:
        text += f", Fréchet distance {metrics['frechet']:.1f}"
    text += f", {metrics['steps_per_second']:.1f} steps/s"
    return text + (", best" if metrics["best"] and "frechet" in metrics else "")
