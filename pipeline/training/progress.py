"""What a person sees of a training: its progress, read from the run's folder, so from anywhere."""

from __future__ import annotations

import time
from typing import Any, TextIO

from pipeline.io.console import LiveDisplay, duration
from pipeline.training.run_folder import RunFolder


class TrainingProgress(LiveDisplay):
    """Shows the progress of runs from their folders, while the block runs: a line an epoch, and a live one on a terminal."""

    def __init__(self, runs: dict[str, RunFolder], stream: TextIO | None = None):
        """`runs` by the name that stands before each line; an only one may be named ""."""
        super().__init__(stream, seconds=0.5)
        self._runs = runs
        self._seen = {name: len(run.read_history()) for name, run in runs.items()}

    def _show(self) -> None:
        self._epochs()
        if self._live or self._silent:
            now = [step_line(name, run.read_json("progress.json")) for name, run in self._runs.items()]
            if any(now):
                self._last = time.monotonic()
                self._write("; ".join(filter(None, now)), passing=True)

    def _finish(self) -> None:
        self._epochs()

    def _epochs(self) -> None:
        for name, run in self._runs.items():
            history = run.read_history()
            # Fewer than before: the run went back to a checkpoint.
            for line in history[min(self._seen[name], len(history)) :]:
                self._last = time.monotonic()
                self._write(f"{name}{': ' if name else ''}{epoch_line(line)}")
            self._seen[name] = len(history)

    def _write(self, text: str, passing: bool = False) -> None:
        if self._live:
            self._stream.write(f"\r\x1b[K{text}" + ("" if passing else "\n"))
        else:
            self._stream.write(text + "\n")
        self._stream.flush()


def step_line(name: str, progress: dict[str, Any] | None) -> str:
    """Where an epoch stands, in words; empty before the first step."""
    if progress is None:
        return ""
    return (
        f"{name}{', ' if name else ''}epoch {progress['epoch']} of {progress['epochs']}: step {progress['step']} of {progress['steps']}, "
        f"{progress['steps_per_second']:.1f} steps/s, {duration(progress['seconds_left'])} left"
    )


def epoch_line(line: dict[str, Any]) -> str:
    """An epoch in words, of a classifier or of a GAN."""
    if "generator_loss" in line:
        return _gan_line(line)
    text = f"epoch {line['epoch']}: train loss {line['train_loss']:.3f}"
    if "val_loss" in line:
        text += f", validation loss {line['val_loss']:.3f}, accuracy {line['val_accuracy']:.1%}, macro-F1 {line['val_macro_f1']:.3f}"
    text += f", {line['rows_per_second']:,.0f} rows/s"
    return text + (" *" if line["best"] and "val_loss" in line else "")


def _gan_line(line: dict[str, Any]) -> str:
    text = f"epoch {line['epoch']}: losses {line['discriminator_loss']:.3f} and {line['generator_loss']:.3f}"
    text += f", diversity {line['diversity']:.0%}"
    if "frechet" in line:
        text += f", recognised {line['class_accuracy']:.0%}, Fréchet distance {line['frechet']:.1f}"
    text += f", {line['steps_per_second']:.1f} steps/s"
    return text + (" *" if line["best"] and "frechet" in line else "")
