"""Records and scores of a search, written in a background thread with few requests."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

from pipeline.io.errors import UserError
from tests.helpers.s3_server import s3_server
from tune.search_writer import SearchWriter
from tune.trials import Point, SearchFolder, Trial


def test_search_writer_writes_what_search_folder_reads(tmp_path: Path) -> None:
    writer, trial = SearchWriter(SearchFolder(tmp_path)), Trial(3, {"learning_rate": 1e-3})
    writer.save(trial)
    for epoch in (1, 2):
        writer.append_score(3, Point(epoch, epoch / 4, float(epoch)))
    trial.state = "finished"
    writer.save(trial)
    writer.close()
    points = [Point(1, 0.25, 1.0), Point(2, 0.5, 2.0)]
    assert SearchFolder(tmp_path).read() == [Trial(3, {"learning_rate": 1e-3}, "finished", points=points)]


def test_search_writer_keeps_scores_of_earlier_sessions(tmp_path: Path) -> None:
    for epoch in (1, 2):
        writer = SearchWriter(SearchFolder(tmp_path))
        writer.append_score(0, Point(epoch, 0.5, float(epoch)))
        writer.close()
    lines = (tmp_path / "scores.jsonl").read_text().splitlines()
    assert [json.loads(line)["epoch"] for line in lines] == [1, 2]


def test_checkpoints_are_deleted_after_record_is_written(tmp_path: Path) -> None:
    folder = SearchFolder(tmp_path)
    checkpoints = folder.trial(0) / "fold_1" / "checkpoints"
    checkpoints.mkdir(parents=True)
    writer = SearchWriter(folder)
    writer.save(Trial(0, {}, "stopped"))
    writer.delete_checkpoints(0)
    writer.close()
    assert not checkpoints.exists()
    assert folder.read() == [Trial(0, {}, "stopped")]


def test_error_of_a_write_is_raised_later(tmp_path: Path) -> None:
    (tmp_path / "trials").write_text("a file, so that no folder of a trial can be created")
    writer = SearchWriter(SearchFolder(tmp_path))
    with pytest.raises(UserError, match="writing to"):
        for _ in range(1000):
            writer.save(Trial(0, {}))
            time.sleep(0.01)
    with pytest.raises(UserError, match="writing to"):
        writer.close()


def test_store_gets_few_requests_for_many_scores() -> None:
    with s3_server() as server:
        folder = SearchFolder(server.bucket("searches") / "run")
        first = SearchWriter(folder)
        first.append_score(0, Point(1, 0.5, 0.0))
        first.close()
        server.reset()
        writer = SearchWriter(folder, interval_s=0.5)
        for number in range(3):
            writer.save(Trial(number, {}))
        start = time.monotonic()
        while time.monotonic() - start < 2:
            writer.append_score(0, Point(2, 0.5, time.monotonic()))
            time.sleep(0.001)
        writer.close()
        requests = server.requests()
        assert sum(requests.values()) <= 3 + 1 + 6  # trials, the scores of before, one in half a second
        scores = (folder.path / "scores.jsonl").read_text(encoding="utf-8").splitlines()
        assert len(scores) > 500
        assert json.loads(scores[0])["epoch"] == 1
