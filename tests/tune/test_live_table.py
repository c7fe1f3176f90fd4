"""What a person reads of a search while it runs."""

from __future__ import annotations

import io
from pathlib import Path

import pytest

from tune.config import SearchConfig
from tune.live_table import LiveTable, ended_line, seconds_left, summary_line, table_lines
from tune.recorder import explain
from tune.trials import Point, SearchFolder, State, Trial

CONFIG = SearchConfig(shards=Path("s"), run=Path("r"), trials=10, max_epochs=9)


def trial(number: int, state: State, *scores: float, seconds: float = 10.0, reason: str = "") -> Trial:
    points = [Point(epoch, score, float(epoch)) for epoch, score in enumerate(scores, start=1)]
    return Trial(
        number, {"learning_rate": 0.00123456, "model.channels": [8, 16]}, state, reason, seconds, points
    )


TRIALS = [
    trial(0, "finished", 0.5, 0.9, 0.8),
    trial(1, "stopped", 0.3),
    trial(2, "failed", 0.99, reason="out of memory"),
    trial(3, "running", 0.4, 0.6),
]


def test_the_table_shows_running_trials_then_the_best_that_ended_and_marks_the_best() -> None:
    lines = table_lines(TRIALS, "max")
    assert [line.split()[0] for line in lines] == ["trial", "3", "0", "1", "2"]
    assert (
        lines[2].startswith("0 *")
        and "0.8000  0.9000" in lines[2]
        and "learning_rate 0.00123, channels [8, 16]" in lines[2]
    )
    assert "out of memory" in lines[4]
    assert [line.split()[0] for line in table_lines(TRIALS, "min")][2:4] == ["1", "0"]


def test_an_ended_trial_in_words() -> None:
    assert ended_line(TRIALS[0], "max").startswith(
        "trial 0: finished after epoch 3, score 0.9000 in epoch 2, 10 s; "
    )
    assert ended_line(trial(4, "failed", reason="the loss is nan"), "max").startswith(
        "trial 4: failed: the loss is nan, 10 s; "
    )


def test_the_summary_names_the_best_that_did_not_fail_and_the_time_left() -> None:
    line = summary_line(TRIALS, CONFIG, 65.0, 2)
    assert (
        line
        == "3 of 10 trials in 1 min 5 s, best so far val_macro_f1 0.9000 (trial 0, epoch 2), about 30 s left"
    )


@pytest.mark.parametrize(
    "trials, budget, left",
    [
        ([], None, None),
        ([], 2.0, 60.0),
        ([trial(0, "finished", 1.0, seconds=20)], None, 90.0),  # nine more of 20 s, two at once
        ([trial(0, "finished", 1.0, seconds=20), trial(1, "running", 1.0, seconds=15)], None, 82.5),
        ([trial(0, "finished", 1.0, seconds=20), trial(1, "running", 1.0, seconds=25)], None, 80.0),
        ([trial(0, "finished", 1.0, seconds=20)], 1.5, 30.0),
    ],
)
def test_the_time_left_is_that_of_the_trials_left_within_the_budget(
    trials: list[Trial], budget: float | None, left: float | None
) -> None:
    config = SearchConfig(**CONFIG.model_dump() | {"time_budget": budget})
    assert seconds_left(trials, config, 60.0, 2) == left


@pytest.mark.parametrize(
    "error, times, said",
    [
        (
            "ray.exceptions.ActorDiedError: The actor died unexpectedly before finishing this task.",
            1,
            "its worker was killed",
        ),
        (
            "RuntimeError: [../gloo/pair.cc] Connection closed by peer [127.0.0.1]:1",
            3,
            "its worker was killed 3 times",
        ),
        (
            "ray.exceptions.OutOfMemoryError: Task was killed due to the node running low on memory.",
            2,
            "out of memory 2 times",
        ),
        ("Failure # 1\nTraceback\n  File x\nValueError: no such thing\n", 1, "ValueError: no such thing"),
        ("", 1, "unknown"),
    ],
)
def test_why_a_trial_failed_in_a_line(error: str, times: int, said: str) -> None:
    assert explain(error, times) == said


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


class Recorded:
    elapsed = 5.0

    def __init__(self, trials: list[Trial]):
        self.trials = {one.number: one for one in trials}


def test_a_terminal_gets_one_table_that_is_drawn_over_itself_and_a_file_a_line_a_trial() -> None:
    terminal, file = Terminal(), io.StringIO()
    for stream in (terminal, file):
        table = LiveTable(Recorded(TRIALS), CONFIG, 2, stream)  # type: ignore[arg-type]
        table._told.clear()
        table._show()
        table._show()
    assert f"\x1b[{len(TRIALS) + 2}F" in terminal.getvalue()
    told = file.getvalue().splitlines()
    assert [line for line in told if line.startswith("trial ")] == [
        ended_line(one, "max") for one in TRIALS if one.state != "running"
    ]
    assert "\x1b" not in file.getvalue()


def test_a_search_folder_reads_what_it_wrote_and_drops_half_a_line(tmp_path: Path) -> None:
    folder = SearchFolder(tmp_path)
    for one in TRIALS:
        folder.save(one)
        for point in one.points:
            folder.append_score(one.number, point)
    with (tmp_path / "scores.jsonl").open("a") as file:
        file.write('{"trial": 3, "epo')  # the driver was killed here
    assert folder.read() == TRIALS
    folder.append_score(3, Point(3, 0.7, 3.0))
    assert folder.read()[3].points[-1] == Point(3, 0.7, 3.0)
