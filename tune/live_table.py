"""Live view of a search: a table of its trials on a terminal, log lines elsewhere."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from rich.console import Group
from rich.table import Table
from rich.text import Text

from pipeline.io.console import LiveDisplay, duration, logger
from pipeline.io.text import plural
from tune.config import SearchConfig
from tune.trials import Mode, Trial, best_trial, sign

if TYPE_CHECKING:
    from tune.recorder import Recorder

COLUMNS = ("trial", "state", "epoch", "score", "best", "time", "values")
MAX_ENDED_ROWS = 10
_STATE_STYLES = {"running": "cyan", "stopped": "dim", "finished": "green", "failed": "red"}


class LiveTable(LiveDisplay):
    """Shows the trials and a summary while a `with` block runs; logs a line per trial that ends."""

    def __init__(self, recorder: Recorder, config: SearchConfig, concurrent_trials: int):
        super().__init__(interval_s=1.0)
        self._recorder, self._config, self._concurrent_trials = recorder, config, concurrent_trials
        self._logged = {number for number, trial in recorder.trials.items() if trial.state != "running"}

    def _trials(self) -> list[Trial]:
        # A copy, because the main thread adds trials concurrently.
        trials = self._recorder.trials.copy()
        return [trials[number] for number in sorted(trials)]

    def _summary(self, trials: Sequence[Trial]) -> str:
        return summary_line(trials, self._config, self._recorder.elapsed_s, self._concurrent_trials)

    def _render(self) -> Group:
        trials = self._trials()
        return Group(trial_table(trials, self._config.mode), Text(self._summary(trials)))

    def _log_events(self) -> bool:
        ended = [
            trial for trial in self._trials() if trial.state != "running" and trial.number not in self._logged
        ]
        for trial in ended:
            self._logged.add(trial.number)
            logger.info("%s", ended_line(trial, self._config.mode))
        return bool(ended)

    def _log_heartbeat(self) -> None:
        logger.info("%s", self._summary(self._trials()))


def trial_table(trials: Sequence[Trial], mode: Mode) -> Table:
    """Return the rows of `table_rows` as a table; the best trial is marked and bold."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in COLUMNS:
        is_number = name in ("trial", "epoch", "score", "best", "time")
        # Only the values are cut on a narrow terminal.
        table.add_column(name, justify="right" if is_number else "left", no_wrap=name != "values")
    best = best_trial(list(trials), mode)
    for trial in table_order(trials, mode):
        number, state, *scores, values = table_row(trial, mode)
        table.add_row(
            number,
            Text(f"{state}, best" if trial is best else state, style=_STATE_STYLES[trial.state]),
            *scores,
            Text(values, no_wrap=True, overflow="ellipsis"),
            style="bold" if trial is best else "",
        )
    return table


def table_order(trials: Sequence[Trial], mode: Mode) -> list[Trial]:
    """Return the trials to show: running ones, then the best `MAX_ENDED_ROWS` ended ones, failed last."""

    def rank(trial: Trial) -> tuple[bool, bool, float]:
        point = trial.best(mode)
        return trial.state == "failed", point is None, -sign(mode) * point.score if point else 0.0

    ended = sorted((trial for trial in trials if trial.state != "running"), key=rank)
    return [*(trial for trial in trials if trial.state == "running"), *ended[:MAX_ENDED_ROWS]]


def table_row(trial: Trial, mode: Mode) -> list[str]:
    """Return the cells of a trial, one per entry of `COLUMNS`; a failed trial has its reason as values."""
    last, best = trial.points[-1] if trial.points else None, trial.best(mode)
    return [
        str(trial.number),
        trial.state,
        str(last.epoch) if last else "",
        f"{last.score:.4f}" if last else "",
        f"{best.score:.4f}" if best else "",
        duration(trial.seconds),
        trial.reason or format_params(trial.params),
    ]


def format_params(params: dict[str, Any]) -> str:
    """Format hyperparameters as one short line, each with the last component of its key."""
    return ", ".join(
        f"{key.rpartition('.')[2]} {f'{value:.3g}' if isinstance(value, float) else value}"
        for key, value in params.items()
    )


def ended_line(trial: Trial, mode: Mode) -> str:
    """Return the result of an ended trial as one line."""
    best = trial.best(mode)
    text = f"trial {trial.number}: {trial.state}"
    if trial.points:
        text += f" after epoch {trial.points[-1].epoch}"
    if trial.reason:
        text += f": {trial.reason}"
    if best is not None:
        text += f", score {best.score:.4f} in epoch {best.epoch}"
    return f"{text}, {duration(trial.seconds)}; {format_params(trial.params)}"


def summary_line(
    trials: Sequence[Trial], config: SearchConfig, elapsed_s: float, concurrent_trials: int
) -> str:
    """Return the state of the search as one line: trials ended, best score, time left."""
    ended = sum(trial.state != "running" for trial in trials)
    text = f"{ended} of {plural(config.trials, 'trial')} in {duration(elapsed_s)}"
    best = best_trial(list(trials), config.mode)
    if best is not None:
        point = best.best(config.mode)
        assert point is not None
        text += f", best {config.metric_name} {point.score:.4f} (trial {best.number}, epoch {point.epoch})"
    remaining_s = estimate_remaining_s(trials, config, elapsed_s, concurrent_trials)
    return text + (f", about {duration(remaining_s)} left" if remaining_s else "")


def estimate_remaining_s(
    trials: Sequence[Trial], config: SearchConfig, elapsed_s: float, concurrent_trials: int
) -> float | None:
    """Estimate the seconds until the search ends, at most the rest of its time budget.

    Each remaining trial is assumed to take the mean time of those that ended; without any, return the rest of
    the budget, or None.
    """
    ended_s = [trial.seconds for trial in trials if trial.state in ("finished", "stopped")]
    budget_s = None if config.time_budget is None else max(0.0, 60 * config.time_budget - elapsed_s)
    if not ended_s:
        return budget_s
    mean_s = sum(ended_s) / len(ended_s)
    running = [trial for trial in trials if trial.state == "running"]
    work_s = sum(max(0.0, mean_s - trial.seconds) for trial in running)
    work_s += mean_s * max(0, config.trials - len(trials))
    remaining_s = work_s / max(concurrent_trials, len(running))
    return remaining_s if budget_s is None else min(remaining_s, budget_s)
