"""Console output of a running search."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from rich.console import Console

import pipeline.io.console
from pipeline.io.console import logger
from tests.helpers.processes import wait_until
from tune.config import SearchConfig
from tune.live_table import (
    MAX_ENDED_ROWS,
    LiveTable,
    ended_line,
    estimate_remaining_s,
    summary_line,
    table_order,
    table_row,
    trial_table,
)
from tune.trials import Point, State, Trial

CONFIG = SearchConfig(shards=Path("s"), run=Path("r"), trials=10, max_epochs=9)


def trial(number: int, state: State, *scores: float, seconds: float = 10.0, reason: str = "") -> Trial:
    points = [Point(epoch, score, float(epoch)) for epoch, score in enumerate(scores, start=1)]
    params = {"learning_rate": 0.00123456, "model.channels": [8, 16]}
    return Trial(number, params, state, reason, seconds, points)


TRIALS = [
    trial(0, "finished", 0.5, 0.9, 0.8),
    trial(1, "stopped", 0.3),
    trial(2, "failed", 0.99, reason="out of memory"),
    trial(3, "running", 0.4, 0.6),
]


@pytest.fixture(autouse=True)
def propagating_logger(monkeypatch: pytest.MonkeyPatch) -> None:
    """Undo what a command that ran earlier in this process changed."""
    monkeypatch.setattr(logger, "propagate", True)


class FakeRecorder:
    """Trials of a search that has run for 65 s."""

    elapsed_s = 65.0

    def __init__(self, trials: list[Trial]):
        self.trials = {trial.number: trial for trial in trials}


def test_table_order_is_running_best_failed() -> None:
    unscored = trial(4, "stopped")
    assert [row.number for row in table_order([*TRIALS, unscored], "max")] == [3, 0, 1, 4, 2]
    assert [row.number for row in table_order([*TRIALS, unscored], "min")] == [3, 1, 0, 4, 2]


def test_table_order_limits_ended_trials() -> None:
    trials = [trial(number, "finished", number / 100) for number in range(30)]
    trials += [trial(number, "running") for number in range(30, 33)]
    numbers = [row.number for row in table_order(trials, "max")]
    assert numbers == [30, 31, 32, *range(29, 29 - MAX_ENDED_ROWS, -1)]


def test_table_row_has_scores_and_params() -> None:
    assert table_row(TRIALS[0], "max") == [
        "0",
        "finished",
        "3",
        "0.8000",
        "0.9000",
        "10 s",
        "learning_rate 0.00123, channels [8, 16]",
    ]
    assert table_row(trial(5, "running"), "max")[:5] == ["5", "running", "", "", ""]


def test_table_row_of_failed_trial_has_reason() -> None:
    assert table_row(TRIALS[2], "max")[-1] == "out of memory"


def test_ended_line_has_result_of_trial() -> None:
    assert ended_line(TRIALS[0], "max") == (
        "trial 0: finished after epoch 3, score 0.9000 in epoch 2, 10 s; "
        "learning_rate 0.00123, channels [8, 16]"
    )
    failed = trial(4, "failed", reason="the loss is nan")
    assert ended_line(failed, "max").startswith("trial 4: failed: the loss is nan, 10 s; ")


def test_summary_line_has_best_and_remaining_time() -> None:
    assert summary_line(TRIALS, CONFIG, 65.0, 2) == (
        "3 of 10 trials in 1 min 5 s, best val_macro_f1 0.9000 (trial 0, epoch 2), about 30 s left"
    )


@pytest.mark.parametrize(
    "trials, budget, remaining_s",
    [
        ([], None, None),
        ([], 2.0, 60.0),
        ([trial(0, "finished", 1.0, seconds=20)], None, 90.0),  # nine of 20 s, two concurrently
        ([trial(0, "finished", 1.0, seconds=20), trial(1, "running", 1.0, seconds=15)], None, 82.5),
        ([trial(0, "finished", 1.0, seconds=20), trial(1, "running", 1.0, seconds=25)], None, 80.0),
        ([trial(0, "finished", 1.0, seconds=20)], 1.5, 30.0),
    ],
)
def test_remaining_time_is_estimated_within_budget(
    trials: list[Trial], budget: float | None, remaining_s: float | None
) -> None:
    config = SearchConfig(**CONFIG.model_dump() | {"time_budget": budget})
    assert estimate_remaining_s(trials, config, 60.0, 2) == remaining_s


@pytest.mark.parametrize("width", [60, 120])
def test_rendered_table_has_one_line_per_trial(width: int) -> None:
    file = io.StringIO()
    Console(file=file, width=width).print(trial_table(TRIALS, "max"))
    header, *rows = file.getvalue().splitlines()
    assert header.split() == ["trial", "state", "epoch", "score", "best", "time", "values"]
    assert [row.split()[0] for row in rows] == ["3", "0", "1", "2"]
    assert [row for row in rows if "best" in row] == [rows[1]]
    assert "finished, best      3  0.8000  0.9000  10 s  learn" in rows[1]
    assert ("channels [8, 16]" in rows[1]) == (width == 120)
    assert all(len(row) <= width for row in rows)


def test_live_table_logs_each_ended_trial_once(caplog: pytest.LogCaptureFixture) -> None:
    recorder = FakeRecorder([TRIALS[0], TRIALS[3]])
    with caplog.at_level("INFO", logger="melray"), LiveTable(recorder, CONFIG, 2):  # type: ignore[arg-type]
        recorder.trials |= {1: TRIALS[1], 2: TRIALS[2]}
    # Trial 0 ended in an earlier session.
    assert caplog.messages == [ended_line(TRIALS[1], "max"), ended_line(TRIALS[2], "max")]


def test_live_table_logs_summary_as_heartbeat(caplog: pytest.LogCaptureFixture) -> None:
    table = LiveTable(FakeRecorder(TRIALS), CONFIG, 2)  # type: ignore[arg-type]
    with caplog.at_level("INFO", logger="melray"):
        table._log_heartbeat()
    assert caplog.messages == [summary_line(TRIALS, CONFIG, 65.0, 2)]


def test_live_table_on_terminal_ends_with_block(monkeypatch: pytest.MonkeyPatch) -> None:
    file = io.StringIO()
    terminal = Console(file=file, width=120, force_terminal=True, color_system=None)
    monkeypatch.setattr(pipeline.io.console, "console", terminal)
    monkeypatch.setattr(pipeline.io.console, "shows_progress", lambda: True)
    table = LiveTable(FakeRecorder(TRIALS), CONFIG, 2)  # type: ignore[arg-type]
    table._interval_s = 0.01
    with pytest.raises(KeyboardInterrupt), table:
        wait_until(lambda: "3 of 10 trials in 1 min 5 s" in file.getvalue())
        raise KeyboardInterrupt
    assert not table._thread.is_alive()
    assert "finished, best" in file.getvalue()
