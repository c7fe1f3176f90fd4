"""What a person sees of a search: a live table on a terminal; elsewhere a line for each trial that ends."""

from __future__ import annotations

import shutil
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, TextIO

from pipeline.io.console import LiveDisplay, duration
from tune.config import SearchConfig
from tune.trials import Mode, Trial, best_trial, sign

if TYPE_CHECKING:
    from tune.recorder import Recorder

# Rows of trials that have ended, the best ones.
ENDED_ROWS = 10


class LiveTable(LiveDisplay):
    """Shows the trials of a recorder while the block runs."""

    def __init__(self, recorder: Recorder, config: SearchConfig, at_once: int, stream: TextIO | None = None):
        super().__init__(stream, seconds=1.0)
        self._recorder, self._config, self._at_once = recorder, config, at_once
        self._told = {number for number, trial in recorder.trials.items() if trial.state != "running"}
        self._lines = 0

    def _show(self) -> None:
        trials = [self._recorder.trials[number] for number in sorted(self._recorder.trials.copy())]
        summary = summary_line(trials, self._config, self._recorder.elapsed, self._at_once)
        if self._live:
            width = shutil.get_terminal_size().columns
            lines = [*table_lines(trials, self._config.mode), summary]
            up = f"\x1b[{self._lines}F" if self._lines else ""
            self._stream.write(up + "".join(f"\x1b[K{line[: width - 1]}\n" for line in lines) + "\x1b[J")
            self._lines = len(lines)
        else:
            fresh = [trial for trial in trials if trial.state != "running" and trial.number not in self._told]
            for trial in fresh:
                self._told.add(trial.number)
                self._stream.write(ended_line(trial, self._config.mode) + "\n")
            if fresh or self._silent:
                self._last = time.monotonic()
                self._stream.write(summary + "\n")
        self._stream.flush()


def table_lines(trials: Sequence[Trial], mode: Mode) -> list[str]:
    """The trials that run, then the best that ended: number, state, epoch, score, best, time and values."""
    running = [trial for trial in trials if trial.state == "running"]
    ended = [trial for trial in trials if trial.state != "running"]
    ended.sort(
        key=lambda trial: (
            trial.state == "failed",
            -sign(mode) * point.score if (point := trial.best(mode)) else 0.0,
        )
    )
    best = best_trial(list(trials), mode)
    rows = [["trial", "state", "epoch", "score", "best", "time", "values"]]
    for trial in [*running, *ended[:ENDED_ROWS]]:
        last, top = trial.points[-1] if trial.points else None, trial.best(mode)
        rows.append(
            [
                f"{trial.number}{' *' if trial is best else ''}",
                trial.state,
                str(last.epoch) if last else "",
                f"{last.score:.4f}" if last else "",
                f"{top.score:.4f}" if top else "",
                duration(trial.seconds),
                trial.reason or values_line(trial.values),
            ]
        )
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    ]


def values_line(values: dict[str, Any]) -> str:
    """Values in short: the last part of each key."""
    return ", ".join(
        f"{key.rpartition('.')[2]} {value:.3g}"
        if isinstance(value, float)
        else f"{key.rpartition('.')[2]} {value}"
        for key, value in values.items()
    )


def ended_line(trial: Trial, mode: Mode) -> str:
    """A trial that ended, in words."""
    top = trial.best(mode)
    text = f"trial {trial.number}: {trial.state}"
    if trial.points:
        text += f" after epoch {trial.points[-1].epoch}"
    if trial.reason:
        text += f": {trial.reason}"
    if top is not None:
        text += f", score {top.score:.4f} in epoch {top.epoch}"
    return f"{text}, {duration(trial.seconds)}; {values_line(trial.values)}"


def summary_line(trials: Sequence[Trial], config: SearchConfig, elapsed: float, at_once: int) -> str:
    """How far the search is, in words."""
    ended = [trial for trial in trials if trial.state != "running"]
    text = f"{len(ended)} of {config.trials} trials in {duration(elapsed)}"
    best = best_trial(list(trials), config.mode)
    if best is not None:
        point = best.best(config.mode)
        assert point is not None
        text += (
            f", best so far {config.judged_by} {point.score:.4f} (trial {best.number}, epoch {point.epoch})"
        )
    left = seconds_left(trials, config, elapsed, at_once)
    return text + (f", about {duration(left)} left" if left else "")


def seconds_left(trials: Sequence[Trial], config: SearchConfig, elapsed: float, at_once: int) -> float | None:
    """A guess from the trials that ended: what is left takes as long as they did; no longer than the time budget. None before one has."""
    done = [trial.seconds for trial in trials if trial.state in ("finished", "stopped")]
    budget = None if config.time_budget is None else max(0.0, 60 * config.time_budget - elapsed)
    if not done:
        return budget
    mean = sum(done) / len(done)
    running = [trial for trial in trials if trial.state == "running"]
    ended = len(trials) - len(running)
    work = sum(max(0.0, mean - trial.seconds) for trial in running) + mean * max(
        0, config.trials - ended - len(running)
    )
    return min(work / at_once, budget) if budget is not None else work / at_once
