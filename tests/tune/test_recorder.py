"""Recorded scores, and reasons of failed trials."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tests.tune.searches import search_config, space_and_base
from tune.recorder import Recorder, failure_reason
from tune.trial.scores import REPEATED_KEY
from tune.trial.trainable import COMPLETED_KEY, COPIED_KEY, TRIAL_NUMBER_KEY
from tune.trials import Point, SearchFolder, Trial


@pytest.mark.parametrize("mutates_params", [False, True])
def test_scores_of_a_resumed_trial_are_recorded_once(tmp_path: Path, mutates_params: bool) -> None:
    """The driver was killed after the trial had saved its second epoch, before it recorded the score."""
    folder = SearchFolder(tmp_path)
    known = [Trial(0, {}, points=[Point(1, 0.1, 5.0)])]
    spec: Any = SimpleNamespace(mutates_params=mutates_params)
    recorder = Recorder(folder, spec, 3, known)
    trial = SimpleNamespace(config={TRIAL_NUMBER_KEY: 0})
    results = [{"epoch": epoch, "score": epoch / 10, REPEATED_KEY: True} for epoch in (1, 2)]
    results += [{"epoch": 3, "score": 0.3}, {"epoch": 3, "score": 0.3, COMPLETED_KEY: True}]
    for result in results:
        recorder.on_trial_result(0, [], trial, result)
    recorder.close()
    assert [(point.epoch, point.score) for point in known[0].points] == [(1, 0.1), (2, 0.2), (3, 0.3)]
    assert [line.split(", ")[1] for line in (tmp_path / "scores.jsonl").read_text().splitlines()] == [
        '"epoch": 2',
        '"epoch": 3',
    ]


def test_epochs_of_a_copied_trial_are_recorded_once(tmp_path: Path) -> None:
    """PBT: the trial has trained three epochs, continues from the second of another trial, loses its worker
    before and after it has saved a checkpoint of its own, and then continues from yet another trial."""
    spec: Any = SimpleNamespace(mutates_params=True)
    recorder = Recorder(SearchFolder(tmp_path), spec, 9, [record := Trial(0, {})])

    def report(epoch: int, score: float, source: str | None = None, rate: float = 0.1) -> None:
        trial = SimpleNamespace(config={TRIAL_NUMBER_KEY: 0, "learning_rate": rate})
        result = {"epoch": epoch, "score": score} | ({COPIED_KEY: source} if source else {})
        recorder.on_trial_result(0, [], trial, result)

    for epoch in (1, 2, 3):
        report(epoch, 0.1)
    for epoch in (3, 4, 3, 4, 5):
        report(epoch, 0.2, "trials/0001/2", 0.2)
    for epoch in (5, 6):
        report(epoch, 0.2, rate=0.2)
    for epoch in (5, 6):
        report(epoch, 0.3, "trials/0002/4", 0.2)
    for epoch in (5, 6):  # the same checkpoint, and other values
        report(epoch, 0.4, "trials/0002/4", 0.3)
    recorder.close()
    assert [(point.epoch, point.score) for point in record.points] == [
        *((epoch, 0.1) for epoch in (1, 2, 3)),
        *((epoch, 0.2) for epoch in (3, 4, 5, 6)),
        *((epoch, 0.3) for epoch in (5, 6)),
        *((epoch, 0.4) for epoch in (5, 6)),
    ]


@pytest.mark.parametrize(("is_complete", "state"), [(False, "running"), (True, "finished")])
def test_trial_after_its_last_epoch_is_finished_once_its_run_is_complete(
    tmp_path: Path, is_complete: bool, state: str
) -> None:
    """A time budget may end it in between; it is completed when the search is resumed."""
    spec: Any = SimpleNamespace(mutates_params=False)
    recorder = Recorder(SearchFolder(tmp_path), spec, 3, [Trial(0, {})])
    recorder.is_ending = True
    result = {"epoch": 3, "score": 0.3, COMPLETED_KEY: is_complete}
    recorder.on_trial_complete(0, [], SimpleNamespace(config={TRIAL_NUMBER_KEY: 0}, last_result=result))
    recorder.close()
    assert SearchFolder(tmp_path).read()[0].state == state


def test_trial_whose_worker_dies_before_it_starts_is_recorded(tmp_path: Path) -> None:
    config = search_config()
    space, _ = space_and_base(config)
    spec: Any = SimpleNamespace(space=space, mutates_params=False)
    recorder = Recorder(SearchFolder(tmp_path), spec, 3, [])
    (tmp_path / "error").write_text("ray.exceptions.ActorDiedError: The actor died unexpectedly.")
    params = {"learning_rate": 0.001, "mixup.rate": 0.5, "model.norm": "group"}
    trial = SimpleNamespace(
        config={TRIAL_NUMBER_KEY: 0} | params, error_file=tmp_path / "error", num_failures=1
    )
    recorder.on_trial_error(0, [], trial)
    recorder.close()
    assert SearchFolder(tmp_path).read() == [Trial(0, params, "failed", "its worker was killed")]


@pytest.mark.parametrize(
    "error, failures, reason",
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
def test_failure_reason_is_one_line(error: str, failures: int, reason: str) -> None:
    assert failure_reason(error, failures) == reason
