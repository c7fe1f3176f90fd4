"""Notes of a run's workers: warnings stay texts in `notes.json`, as earlier versions wrote them."""

from __future__ import annotations

import logging
from contextlib import closing
from pathlib import Path

import pytest

from pipeline.training.finished_run import read_run
from pipeline.training.format_version import FORMAT_VERSION
from pipeline.training.log import RunLog
from pipeline.training.notes import Note, read_notes
from pipeline.training.progress import TrainingProgress
from pipeline.training.run_folder import RunFolder


def test_notes_and_warnings_reach_the_console_at_their_level(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    run = RunFolder(tmp_path)
    run.write_json(
        "config.json", {"format_version": FORMAT_VERSION, "command": "train-gan", "config": {}, "shards": ""}
    )
    progress = TrainingProgress({"fold 1": run})
    with closing(RunLog(run, True, [], epochs=1)) as log:
        log.note("weights of a; loaded: stem")
        log.warn("epoch 2 collapsed")
    caplog.clear()
    with caplog.at_level(logging.INFO, logger="melray"):
        progress._log_events()
    assert [(record.levelname, record.getMessage()) for record in caplog.records] == [
        ("INFO", "fold 1: weights of a; loaded: stem"),
        ("WARNING", "fold 1: epoch 2 collapsed"),
    ]
    assert read_run(tmp_path).notes == ["weights of a; loaded: stem", "epoch 2 collapsed"]
    with closing(RunLog(run, True, [], epochs=1)) as log:  # resumed
        log.note("third")
    assert [note.text for note in read_notes(run)][2:] == ["third"]


def test_notes_of_earlier_versions_are_warnings(tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    assert read_notes(run) == []
    run.write_json("notes.json", ["epoch 2 collapsed"])
    assert read_notes(run) == [Note("epoch 2 collapsed", is_warning=True)]
